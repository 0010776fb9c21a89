//! What is known when a question is answered: the world, read from a cluster or from files.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
};

use jiff::Timestamp;
use kube::{ResourceExt, api::DynamicObject};

use super::{
    cluster::{Cluster, ClusterArgs},
    error::Error,
    fetch, files,
    operator::OperatorArgs,
    progress::Progress,
};
use crate::{
    api::{DistributionPolicy, SecretsDistribution, SecretsDistributionStatus},
    core::{
        index::{Gate, Stored, World},
        name::{NamespaceName, PolicyName, RequestKey},
        object,
        policy::{Namespace, Policy},
        request::Request,
    },
};

/// Where the answer comes from.
#[derive(Clone, Debug, clap::Args)]
pub struct ViewArgs {
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Files in its place.
    #[command(flatten)]
    pub files: FileArgs,
    /// The operator that decides there.
    #[command(flatten)]
    pub operator: OperatorArgs,
}

/// Files in place of a cluster.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Without a cluster")]
pub struct FileArgs {
    /// Decide by the policies of this file or folder, and ask no cluster. May be given several times; of a folder the
    /// YAML and JSON files count, *.cases.yaml not.
    #[arg(long, value_name = "PATH")]
    pub policies: Vec<PathBuf>,

    /// The namespaces and their labels: what `kubectl get namespaces -o yaml` prints, or rows of name and labels. One
    /// that is not in it is known by its name only: no selector matches it.
    #[arg(long, value_name = "FILE", requires = "policies")]
    pub namespaces: Option<PathBuf>,

    /// The requests: what `kubectl get sd -A -o yaml` prints. By default there are none.
    #[arg(long, value_name = "FILE", requires = "policies")]
    pub requests: Option<PathBuf>,

    /// The instant to decide for, such as 2026-01-15T12:00:00Z. By default now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
}

impl FileArgs {
    /// Whether no cluster is asked.
    pub fn are_given(&self) -> bool {
        !self.policies.is_empty()
    }

    /// The instant to decide for.
    pub fn at(&self) -> Timestamp {
        // Whole seconds, as policies have them.
        let now = || Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        self.at.unwrap_or_else(now)
    }
}

/// What is known.
pub struct View {
    /// Policies, namespaces and requests, as the operator has them. Of Secrets it knows nothing.
    pub world: World,
    /// Namespace of the operator.
    pub operator_namespace: NamespaceName,
    /// The instant of every decision.
    pub at: Timestamp,
    /// The policies as they are written; those that cannot be understood at all are only in the world.
    pub policies: BTreeMap<PolicyName, DistributionPolicy>,
    statuses: HashMap<RequestKey, Status>,
}

/// What the operator has said about a request.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The generation of the request that is there now.
    pub generation: Option<i64>,
    /// The status.
    pub told: SecretsDistributionStatus,
}

impl Status {
    /// The status of an object.
    pub fn of(object: &DynamicObject) -> Self {
        let status = object.data.get("status");
        Self {
            generation: object.metadata.generation,
            told: status.and_then(|status| serde_json::from_value(status.clone()).ok()).unwrap_or_default(),
        }
    }

    /// Whether the operator has looked at the request as it is now.
    pub fn is_current(&self) -> bool {
        self.told.observed_generation.is_some() && self.told.observed_generation == self.generation
    }
}

impl View {
    /// All that the question needs, from where the arguments say.
    pub async fn open(args: &ViewArgs) -> Result<Self, Error> {
        match args.files.are_given() {
            true => Self::of_files(args),
            false => Self::of_cluster(&args.cluster.connect().await?, args).await,
        }
    }

    /// What the files say.
    pub fn of_files(args: &ViewArgs) -> Result<Self, Error> {
        let (operator, args) = (args.operator.namespace()?, &args.files);
        let namespaces = args.namespaces.as_deref().map(files::namespaces).transpose()?.unwrap_or_default();
        let mut view = Self::of_namespaces(operator, args.at(), namespaces);
        for policy in files::policies(&args.policies)? {
            view.take_policy(policy);
        }
        for request in args.requests.as_deref().map(files::requests).transpose()?.into_iter().flatten() {
            view.take_request(request)?;
        }
        Ok(view)
    }

    /// What the cluster has, as far as the caller may read it: that a part may not be read is an error, since no
    /// answer could be trusted without it.
    pub async fn of_cluster(cluster: &Cluster, args: &ViewArgs) -> Result<Self, Error> {
        let operator = args.operator.namespace()?;
        let (client, progress) = (&cluster.client, Progress::default());
        let lists = futures::future::join3(
            fetch::policies(client, &progress),
            fetch::namespaces(client, &progress),
            fetch::requests(client, None, &progress),
        );
        let (policies, namespaces, requests) =
            progress.during("reading policies, namespaces and requests", lists).await;
        // Of several rights that are missing always the same is told.
        let (policies, namespaces, requests) = (policies?, namespaces?, requests?);
        let mut view = Self::of_namespaces(operator, args.files.at(), namespaces);
        policies.iter().for_each(|policy| view.take_policy_object(policy));
        requests.iter().for_each(|request| view.take_request_object(request));
        Ok(view)
    }

    /// What the operator has said about a request, if it has said anything.
    pub fn status(&self, key: &RequestKey) -> Option<&Status> {
        self.statuses.get(key)
    }

    /// The policies that are in the world and can be compiled.
    pub fn compiled(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.world.policies.policies().filter_map(|(_, policy)| policy.as_ref().ok())
    }

    /// A world of namespaces; nothing else will be waited for.
    pub fn of_namespaces(operator_namespace: NamespaceName, at: Timestamp, namespaces: Vec<Namespace>) -> Self {
        let mut world = World::new(operator_namespace.clone());
        for namespace in namespaces {
            world.apply_namespace(namespace);
        }
        for gate in Gate::ALL {
            world.open(gate);
        }
        Self { world, operator_namespace, at, policies: BTreeMap::new(), statuses: HashMap::new() }
    }

    /// Takes in a policy.
    pub fn take_policy(&mut self, policy: DistributionPolicy) {
        let name = PolicyName::admitted(&policy.name_any());
        self.world.apply_policy(name.clone(), Policy::parse(&policy).map(Arc::new));
        self.policies.insert(name, policy);
    }

    fn take_policy_object(&mut self, object: &DynamicObject) {
        match object::typed(object) {
            Ok(policy) => self.take_policy(policy),
            Err(problem) => drop(self.world.apply_policy(PolicyName::admitted(&object.name_any()), Err(problem))),
        }
    }

    /// Takes in a request as it is written.
    pub fn take_request(&mut self, request: SecretsDistribution) -> Result<(), Error> {
        let parsed = Request::parse(&request)?;
        let (key, generation) = (parsed.key.clone(), request.metadata.generation);
        let told = request.status.unwrap_or_default();
        self.statuses.insert(key.clone(), Status { generation, told });
        self.world.apply_request(key, Stored::Valid(Arc::new(parsed)));
        Ok(())
    }

    /// Takes in a request as it is in a cluster.
    pub fn take_request_object(&mut self, object: &DynamicObject) {
        if let Some((key, stored)) = object::request(object) {
            self.statuses.insert(key.clone(), Status::of(object));
            self.world.apply_request(key, stored);
        }
    }
}
