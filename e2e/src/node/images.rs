//! The images of a node: nothing is pulled. The operator's is that of `make image`; each other is made here of one static
//! program.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::require;
use crate::{jaeger, repository};

pub(super) const GUEST: &str = "localhost/guest:1";

/// As in deploy/jaeger: it is not pulled, since it is there.
const JAEGER: &str = "docker.io/jaegertracing/all-in-one:1.76.0";

const PROGRAM: &str = include_str!("../../node/guest.go");

/// Puts the archives into `images` of the folder.
pub(super) async fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("images"))?;
    fs::copy(operator()?, folder.join("images/operator.tar"))?;
    let guest = context(folder, "guest")?;
    fs::write(guest.join("guest.go"), PROGRAM)?;
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-ldflags", "-s -w", "-o", "program", "guest.go"]);
    run(go.current_dir(&guest).env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOWORK", "off")).await?;
    build(folder, "guest", GUEST).await?;
    fs::copy(jaeger::program().await?, context(folder, "jaeger")?.join("program"))?;
    build(folder, "jaeger", JAEGER).await
}

fn context(folder: &Path, name: &str) -> Result<PathBuf> {
    let context = folder.join("contexts").join(name);
    fs::create_dir_all(&context)?;
    fs::write(context.join("Containerfile"), "FROM scratch\nCOPY program /program\nENTRYPOINT [\"/program\"]\n")?;
    Ok(context)
}

/// Makes an image of a static program, with a storage of its own: the images of the user stay as they are.
async fn build(folder: &Path, name: &str, tag: &str) -> Result<()> {
    let buildah = || {
        let mut buildah = Command::new("buildah");
        buildah.args(["--storage-driver", "vfs", "--root"]).arg(folder.join("buildah/storage"));
        buildah.arg("--runroot").arg(folder.join("buildah/run"));
        buildah
    };
    let context = folder.join("contexts").join(name);
    run(buildah().args(["bud", "--quiet", "--isolation", "chroot", "--pull-never", "--tag", tag]).arg(context)).await?;
    let archive = folder.join("images").join(format!("{name}.tar"));
    run(buildah().args(["push", "--quiet", tag, &format!("docker-archive:{}:{tag}", archive.display())])).await
}

/// The archive that `make image` has left for this machine.
fn operator() -> Result<PathBuf> {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let given = std::env::var_os("OPERATOR_IMAGE").filter(|value| !value.is_empty()).map(PathBuf::from);
    let made = || repository().join(format!("target/image/secrets-distributor-{architecture}.tar"));
    let archive = given.unwrap_or_else(made);
    require(archive.is_file(), || format!("the image of the operator, {}", archive.display()))?;
    Ok(archive)
}

async fn run(command: &mut Command) -> Result<()> {
    let called = format!("{:?}", command.as_std());
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("cannot run {called}"))?;
    ensure!(output.status.success(), "{called}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
