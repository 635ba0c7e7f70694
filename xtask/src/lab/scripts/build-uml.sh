# shellcheck shell=bash
# Builds a User Mode Linux kernel, inside the root. Started again after an interruption it goes on where it
# was.
# In front: source, the kernel's tree; out, where it is built; jobs; seeds, older builds that are nearly the
# same.
# shellcheck disable=SC2086,SC2164 # The values in front are words without spaces, but for the list of seeds.

for seed in $seeds; do
    if ! [ -e $out/.config ] && [ "$(readlink $seed/source)" = $source ]; then
        cp -a $seed/. $out/
    fi
done
mv $out/wanted.config.new $out/wanted.config
make -C $source O=$out ARCH=um defconfig
cd $out
ARCH=um $source/scripts/kconfig/merge_config.sh -m .config wanted.config
make ARCH=um olddefconfig
# Kconfig drops what it cannot have without a word. That would only be noticed much later.
missing=$(grep -E '^(CONFIG_|# CONFIG_.* is not set)' wanted.config | grep -vxFf .config || true)
while read -r line; do
    case $line in
    '# CONFIG_'*) name=${line#\# }; if grep -q "^${name%% *}=" .config; then echo "not obeyed: $line"; fi ;;
    CONFIG_*) echo "not obeyed: $line"; exit 1 ;;
    esac
done <<< "$missing"
make ARCH=um -j$jobs linux modules
rm -rf install
make ARCH=um INSTALL_MOD_PATH=$out/install modules_install
