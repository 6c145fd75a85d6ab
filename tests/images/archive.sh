# Writes docker archives (what `docker save` writes and `ctr images import` reads) without a registry.
# Sourced, never run.
# shellcheck shell=bash

# layer DIRECTORY TAR [TAR_OPTION…]: packs a root directory; equal content gives equal bytes. Files keep
# their owners unless an option says otherwise.
layer() {
    tar --create --file "$2" --directory "$1" --sort=name --mtime=@0 --numeric-owner --format=gnu "${@:3}" .
}

# archive OUTPUT CONFIG TAGS LAYER…: CONFIG is the image's `config` object (user, env, command) as
# JSON, TAGS its names separated by spaces. The output appears complete or not at all.
archive() {
    local output=$1 config=$2 tags=$3 digests=() names=() work layer digest
    shift 3
    work=$(mktemp -d "$output.XXXXXX.tmp")
    for layer in "$@"; do
        digest=$(sha256sum "$layer")
        digest=${digest%% *}
        digests+=("sha256:$digest")
        names+=("$digest.tar")
        ln "$layer" "$work/$digest.tar" 2>/dev/null || cp "$layer" "$work/$digest.tar"
    done
    jq --null-input --compact-output --argjson config "$config" --arg architecture "$(dpkg --print-architecture)" \
        '{architecture: $architecture, os: "linux", config: $config,
          rootfs: {type: "layers", diff_ids: $ARGS.positional}}' --args "${digests[@]}" >"$work/config.json"
    jq --null-input --compact-output --arg tags "$tags" \
        '[{Config: "config.json", RepoTags: ($tags | split(" ")), Layers: $ARGS.positional}]' \
        --args "${names[@]}" >"$work/manifest.json"
    tar --create --file "$output.$$.tmp" --directory "$work" manifest.json config.json "${names[@]}"
    mv "$output.$$.tmp" "$output"
    rm -rf "$work"
}
