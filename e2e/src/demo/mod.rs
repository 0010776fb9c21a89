//! The demo: the main job, told in steps, with the real output of real commands.

mod guest;
mod stage;
mod steps;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::pin::{Pin, pin};

use anyhow::{Context, Result};

use self::guest::Guest;
use self::steps::Show;
use crate::ControlPlane;

const NAMESPACE: &str = "test-application-1";
const POLICY: &str = "wildcard-tls";
const REQUEST: &str = "wildcard-tls-distribution";
const SECRET: &str = "wildcard-tls-secret";

/// Shows the main job, on a control plane of its own or on the cluster that `E2E_KUBECONFIG` names. It ends early
/// when `stop` does; whichever way it ends, nothing of it stays behind.
pub async fn run(keep: bool, stop: impl Future<Output = ()>) -> Result<Ending> {
    let mut stop = pin!(stop);
    let cluster = tokio::select! {
        cluster = ControlPlane::start() => cluster?,
        () = &mut stop => return Ok(Ending::Interrupted),
    };
    // A cluster of our own goes as a whole.
    let guest = match cluster.description().servers {
        Some(_) => None,
        None => Some(Guest::arrive(&cluster).await?),
    };
    let ending = play(&cluster, keep, stop).await;
    let left = match guest {
        Some(guest) => guest.leave(&cluster).await.context("the demo could not remove everything that it made"),
        None => Ok(()),
    };
    let ending = ending?;
    left.map(|()| ending)
}

/// How the demo ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything was shown.
    Shown,
    /// Somebody stopped it before.
    Interrupted,
}

async fn play(cluster: &ControlPlane, keep: bool, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<Ending> {
    let show = tokio::select! {
        show = Show::play(cluster) => show?,
        () = &mut stop => return Ok(Ending::Interrupted),
    };
    if keep {
        tell_how_to_go_on(cluster, show.mount.path(), &show.jaeger.url(""))?;
        tokio::select! { () = enter_pressed() => {}, () = stop => {} }
    }
    Ok(Ending::Shown)
}

fn tell_how_to_go_on(cluster: &ControlPlane, sources: &Path, traces: &str) -> Result<()> {
    let kubectl = cluster.description().kubectl.parent().context("kubectl is in no folder")?;
    let mut out = io::stdout().lock();
    writeln!(out, "\nAll of it runs on. In another terminal:")?;
    writeln!(out, "   export KUBECONFIG={} PATH={}:$PATH", cluster.kubeconfig().display(), kubectl.display())?;
    writeln!(out, "   kubectl get sd,dp --all-namespaces")?;
    writeln!(out, "The files in {} are the sources; change them as you like.", sources.join("..data").display())?;
    writeln!(out, "Traces are at {traces} followed by the traceID of a status.")?;
    writeln!(out, "To stop, press Enter here, or Ctrl-C; nothing stays behind.")?;
    Ok(out.flush()?)
}

/// Never, where nobody can press it.
async fn enter_pressed() {
    if !io::stdin().is_terminal() {
        return std::future::pending().await;
    }
    let _ = tokio::task::spawn_blocking(|| io::stdin().read_line(&mut String::new())).await;
}
