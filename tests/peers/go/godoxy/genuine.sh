#!/bin/sh
# Asks for the genuine modules of GoDoxy's agent and of its streams.  Ends with 1 if they cannot be had.
set -u
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
printf 'module genuine\n\ngo 1.24\n' > go.mod
for module in github.com/yusing/godoxy@v0.31.0 github.com/yusing/godoxy/agent@v0.0.0-20260820175214-adca63795bd5
do
    echo "go mod download $module"
    go mod download "$module" && exit 0
done
exit 1
