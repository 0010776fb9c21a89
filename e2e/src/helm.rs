//! The real helm, as a person runs it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::Value;
use tokio::process::Command;

use crate::go::{Cache, Pins, Program};
use crate::{ControlPlane, repository};

static PINS: Pins = Pins {
    what: "Helm",
    go_mod: include_str!("../helm/go.mod"),
    go_sum: include_str!("../helm/go.sum"),
    module: "helm.sh/helm/v4",
    tags: "",
    folder: "helm-",
    ways_around: "Or build nothing: set HELM to the path of Helm 4, or put it as `helm` into the folder that \
        KUBEBUILDER_ASSETS names.",
};

/// What the program tells as its version.
const VERSION: &str = "helm.sh/helm/v4/internal/version.version";

const PROGRAM: Program = ("helm", "helm.sh/helm/v4/cmd/helm");

/// Helm, with the chart of this repository unless it is given another. Nothing of the user's own settings has an effect.
#[derive(Clone, Debug)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
    chart: PathBuf,
}

impl Helm {
    /// The chart.
    pub fn chart() -> PathBuf {
        repository().join("deploy/chart")
    }

    /// For what needs no cluster; its files are in that folder.
    pub async fn without_cluster(folder: &Path) -> Result<Self> {
        let home = folder.join("helm");
        std::fs::create_dir_all(&home)?;
        Ok(Self { program: program().await?, kubeconfig: home.join("no-kubeconfig"), home, chart: Self::chart() })
    }

    /// The same with another chart.
    #[must_use]
    pub fn with_chart(&self, chart: PathBuf) -> Self {
        Self { chart, ..self.clone() }
    }

    /// As the administrator of a cluster that is made to know nothing of the operator, with empty namespaces: one for
    /// it where Pod Security is restricted, and others.
    pub async fn on(cluster: &ControlPlane, home: &str, others: &[&str]) -> Result<Self> {
        cluster.kubectl(["delete", "crd", "--all"]).succeed().await?;
        for namespace in [&[home], others].concat() {
            cluster.kubectl(["create", "namespace", namespace]).succeed().await?;
        }
        let restricted = ["label", "namespace", home, "pod-security.kubernetes.io/enforce=restricted"];
        cluster.kubectl(restricted).succeed().await?;
        let kubeconfig = cluster.kubeconfig().to_owned();
        Ok(Self { kubeconfig, ..Self::without_cluster(cluster.directory()).await? })
    }

    /// Runs it and gives its standard output; what it says when it fails is the error.
    pub async fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).envs(self.environment()).kill_on_drop(true);
        let output = command.output().await.context("cannot run helm")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The program, for whoever runs it by a script.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The environment in which it acts on this cluster, apart from the user's own settings.
    pub fn environment(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("KUBECONFIG", self.kubeconfig.clone()),
            ("HELM_CACHE_HOME", self.home.join("cache")),
            ("HELM_CONFIG_HOME", self.home.join("config")),
            ("HELM_DATA_HOME", self.home.join("data")),
        ]
    }

    /// Does something with a release and these values: `install`, `upgrade`, `template`. In that namespace.
    pub async fn release(&self, verb: &str, namespace: &str, values: &Value) -> Result<String> {
        let file = tempfile::NamedTempFile::new_in(&self.home)?;
        serde_json::to_writer(&file, values)?;
        let arguments: [&OsStr; 7] = [
            verb.as_ref(),
            "secrets-distributor".as_ref(),
            self.chart.as_os_str(),
            "--namespace".as_ref(),
            namespace.as_ref(),
            "--values".as_ref(),
            file.path().as_os_str(),
        ];
        self.run(arguments).await
    }

    /// The objects that the chart makes of these values.
    pub async fn render(&self, namespace: &str, values: &Value) -> Result<Vec<Value>> {
        objects(&self.release("template", namespace, values).await?)
    }
}

/// The key of the digests that the chart has made in the namespace: every operator there goes by it.
pub async fn digest_key(cluster: &ControlPlane, namespace: &str) -> Result<Vec<u8>> {
    let secrets = Api::<Secret>::namespaced(cluster.client().await?, namespace);
    let key = secrets.get("secrets-distributor-digest-key").await?;
    let key = key.data.and_then(|mut data| data.remove("digest.key")).context("the Secret has no digest.key")?;
    Ok(key.0)
}

/// The objects in a text of YAML documents.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    let read = |document| serde::Deserialize::deserialize(document).map_err(|error| anyhow!("{error}: {text}"));
    let objects: Vec<Value> = documents.map(read).collect::<Result<_>>()?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

async fn program() -> Result<PathBuf> {
    let given = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(program) = given("HELM") {
        return Ok(program);
    }
    let (cache, assets) = (Cache::open(&PINS, Some(VERSION))?, given("KUBEBUILDER_ASSETS"));
    cache.build_missing(&[PROGRAM], assets.as_deref()).await?;
    Ok(cache.find(PROGRAM, assets.as_deref()))
}
