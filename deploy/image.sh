#!/usr/bin/env bash
# Builds the image of the operator, with docker, podman or buildah, whichever is there; and, with cargo-cyclonedx, its
# bill of materials.
# Settings: IMAGE (name and tag), TARGETARCH (amd64 or arm64; default: this machine's), BASE (scratch).
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
revision=$(git describe --always --dirty --abbrev=40 --exclude '*' 2> /dev/null || true)
image=${IMAGE:-secrets-distributor:$version}
arch=${TARGETARCH:-$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')}
context=target/image
archive=$context/secrets-distributor-$arch.tar
bill=$context/secrets-distributor-$arch.cdx.json
# The time of the commit, so that the same sources make the same image and the same bill.
epoch=$(git log -1 --format=%ct 2> /dev/null || echo 0)
cyclonedx_version=0.5.9
most=$((20 * 1000 * 1000))

fail() {
  echo "$*" >&2
  exit 1
}

# The target whose binary needs nothing of a system: musl, or glibc linked statically.
choose_target() {
  local machine
  case $arch in
    amd64) machine=x86_64 ;;
    arm64) machine=aarch64 ;;
    *) fail "TARGETARCH=$arch: must be amd64 or arm64" ;;
  esac
  target=$machine-unknown-linux-musl
  rustc --print target-libdir --target "$target" | xargs test -d || target=$machine-unknown-linux-gnu
  rustc --print target-libdir --target "$target" | xargs test -d ||
    fail "Rust cannot build for $machine. Run: rustup target add $machine-unknown-linux-musl"
}

build_binary() {
  echo "== binary for $target"
  RUSTFLAGS="-C target-feature=+crt-static" SECRETS_DISTRIBUTOR_COMMIT=$revision \
    cargo build --release --locked --package secrets-distributor --bin secrets-distributor --target "$target"
  binary=${CARGO_TARGET_DIR:-target}/$target/release/secrets-distributor
  if readelf --program-headers "$binary" | grep -q INTERP; then
    fail "$binary is not static"
  fi
}

make_context() {
  local roots=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
  test -s "$roots" || fail "$roots does not exist. Install ca-certificates, or set SSL_CERT_FILE to a file of CA certificates"
  mkdir -p "$context/$arch"
  cp "$binary" "$context/$arch/secrets-distributor"
  cp "$roots" "$context/ca-certificates.crt"
}

# One that is there and works: the command of docker may be there without its daemon.
choose_builder() {
  if docker info > /dev/null 2>&1; then
    builder=docker
  elif command -v podman > /dev/null; then
    builder=podman
  elif command -v buildah > /dev/null; then
    builder=buildah
  else
    fail "Nothing builds images here. Install docker, podman or buildah, for instance: apt-get install -y buildah"
  fi
}

build_image() {
  echo "== $image with $builder"
  local arguments=(--file Dockerfile --tag "$image" --platform "linux/$arch")
  arguments+=(--build-arg "TARGETARCH=$arch" --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
  arguments+=(--build-arg "BASE=${BASE:-scratch}")
  rm -f "$archive"
  case $builder in
    docker) docker build "${arguments[@]}" "$context" && docker save --output "$archive" "$image" ;;
    podman) podman build --pull=never "${arguments[@]}" "$context" && podman save --output "$archive" "$image" ;;
    buildah)
      buildah bud --isolation chroot --pull-never --timestamp "$epoch" "${arguments[@]}" "$context"
      buildah push --quiet "$image" "docker-archive:$archive:$image"
      ;;
  esac
}

# Of what is linked into the binary. Cargo's name of a crate of this repository holds the folder of the checkout.
bill_of_materials() {
  local made=secrets-distributor_bin.cdx.json
  echo "== bill of materials"
  rm -f "$bill"
  # For every binary of the workspace, beside its manifest.
  SOURCE_DATE_EPOCH=$epoch "$cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 --target "$target" \
    --describe binaries --no-build-deps --manifest-path Cargo.toml
  sed --regexp-extended \
    's,path\+file://[^"#]*#(secrets-distributor@)?,secrets-distributor@,g' "$made" > "$context/$made"
  rm -f ./*.cdx.json e2e/*.cdx.json
  if grep --quiet --fixed-strings --regexp=file:/// --regexp="$PWD/" "$context/$made"; then
    fail "$context/$made names folders of this machine"
  fi
  mv "$context/$made" "$bill"
}

choose_target
choose_builder
cyclonedx=$(.ci/cargo-tool cargo-cyclonedx "$cyclonedx_version")
build_binary
make_context
build_image
bill_of_materials
size=$(stat --format %s "$archive")
test "$size" -lt "$most" || fail "$archive has $size bytes: more than $most"
echo "$image: $size bytes, also in $archive; bill of materials (CycloneDX): $bill"
