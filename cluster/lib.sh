# shellcheck shell=bash
# All functions of the scripts of this folder.
for _part in common engine path build node nodes load addons apps; do
    # shellcheck source=/dev/null
    source "$(dirname "${BASH_SOURCE[0]}")/lib/$_part.sh"
done
unset _part
