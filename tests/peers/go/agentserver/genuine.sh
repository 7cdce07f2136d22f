#!/bin/sh
# Asks for the genuine module of agentserver, whose public SDK is an agent. (Its tunnel package is internal: it cannot be imported
# from another module.) Ends with 1 if no version can be had.
set -u
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
printf 'module genuine\n\ngo 1.23\n' > go.mod
for version in v0.48.1 v0.69.9
do
    echo "go mod download github.com/agentserver/agentserver@$version"
    go mod download "github.com/agentserver/agentserver@$version" && exit 0
done
exit 1
