//! The cluster that is asked, with the rights of who asks.

use std::{path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::error::Error;
use crate::core::name::NamespaceName;

/// How long the API server may take to answer at all.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Which cluster, and where in it; as kubectl is told.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// Kubeconfig to use. By default those that KUBECONFIG names, else ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig to use. By default its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// Namespace to ask about. By default that of the context.
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// A way to the cluster.
#[derive(Clone)]
pub struct Cluster {
    /// The client, with the rights of who asks.
    pub client: Client,
    /// The namespace that was named, else that of the context.
    pub namespace: NamespaceName,
    /// User of the context, for commands that are to be typed.
    pub address: String,
}

impl ClusterArgs {
    /// The way to the cluster. Nothing is asked yet.
    pub async fn connect(&self) -> Result<Cluster, Error> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(TIMEOUT);
        config.read_timeout = Some(TIMEOUT);
        config.default_retry = false;
        let address = config.cluster_url.to_string();
        let namespace = self.namespace.as_deref().unwrap_or(&config.default_namespace);
        let namespace = NamespaceName::parse(namespace).map_err(|error| Error::argument("--namespace", error))?;
        let client = Client::try_from(config).map_err(|error| Error::Usage(format!("the kubeconfig: {error}")))?;
        Ok(Cluster { client, namespace, address })
    }

    /// The namespace that was named, if one was.
    pub fn named_namespace(&self) -> Result<Option<NamespaceName>, Error> {
        let parsed = self.namespace.as_deref().map(NamespaceName::parse).transpose();
        parsed.map_err(|error| Error::argument("--namespace", error))
    }

    async fn config(&self) -> Result<Config, Error> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(file) => match Kubeconfig::read_from(file) {
                Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
                Err(error) => Err(error),
            },
            None => Config::from_kubeconfig(&options).await,
        };
        config.map_err(|error| Error::NoCluster(Box::new(error)))
    }
}
