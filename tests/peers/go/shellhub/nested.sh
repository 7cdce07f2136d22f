#!/bin/sh
# Asks for the modules that hold the rest of ShellHub's genuine code: its server's dialler, its agent, and the fork of an SSH
# server that the agent stands on. They are modules inside the repository of the root module, without tags of their own, so
# each is named by the commit of v0.26.0. Ends with 1 if any is not to be had.
set -u
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
printf 'module nested\n\ngo 1.25.8\n' > go.mod
missing=0
for module in \
    github.com/shellhub-io/shellhub@v0.26.0 \
    github.com/shellhub-io/shellhub/ssh@v0.0.0-20260706140202-34c91084a44f \
    github.com/shellhub-io/shellhub/agent@v0.0.0-20260706140202-34c91084a44f \
    github.com/shellhub-io/ssh@v0.0.0-20260415152045-3e1bf24c2919
do
    echo "go mod download $module"
    go mod download "$module" || missing=1
done
exit $missing
