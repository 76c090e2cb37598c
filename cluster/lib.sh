# shellcheck shell=bash
# All functions of the scripts of this folder.
_lib=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=cluster/lib/common.sh
source "$_lib/common.sh"
# shellcheck source=cluster/lib/engine.sh
source "$_lib/engine.sh"
# shellcheck source=cluster/lib/path.sh
source "$_lib/path.sh"
# shellcheck source=cluster/lib/build.sh
source "$_lib/build.sh"
# shellcheck source=cluster/lib/node.sh
source "$_lib/node.sh"
# shellcheck source=cluster/lib/nodes.sh
source "$_lib/nodes.sh"
# shellcheck source=cluster/lib/load.sh
source "$_lib/load.sh"
# shellcheck source=cluster/lib/addons.sh
source "$_lib/addons.sh"
# shellcheck source=cluster/lib/apps.sh
source "$_lib/apps.sh"
unset _lib
