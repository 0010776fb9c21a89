//! `delegate` and `undelegate`: whether the operator may write Secrets in a namespace, with the rights of who says so.

mod review;

use std::process::ExitCode;

use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};

use self::review::Review;
use super::{
    cluster::ClusterArgs,
    error::{Error, Right},
    operator::OperatorArgs,
    output::{self, ColorArgs},
};
use crate::{
    access::SecretsAccess,
    core::name::{NamespaceName, SecretName},
    rbac::{self, OPERATOR},
};

const FIELD_MANAGER: &str = "kubectl-distribute";

/// Which namespace, and which operator.
#[derive(Debug, clap::Args)]
struct BindingArgs {
    /// The namespace. By default that of --namespace or of the context.
    #[arg(value_name = "NAMESPACE")]
    place: Option<String>,

    /// Do it, with the rights of who calls. An admin of the namespace has them.
    #[arg(long, conflicts_with = "dry_run")]
    apply: bool,

    /// Only show the RoleBinding. So it is by default.
    #[arg(long)]
    dry_run: bool,

    /// How the operator comes to know the Secrets (its --secrets-access): watch or writeOnly.
    #[arg(long, value_name = "MODE", default_value = "watch",
        value_parser = |text: &str| SecretsAccess::parse(text).ok_or("must be watch or writeOnly"))]
    secrets_access: SecretsAccess,

    /// ServiceAccount of the operator.
    #[arg(long, value_name = "NAME", default_value = OPERATOR)]
    service_account: String,

    #[command(flatten)]
    color: ColorArgs,

    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    operator: OperatorArgs,
}

/// Lets the operator in.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubectl distribute delegate test-application-1
  kubectl distribute delegate test-application-1 --apply
  kubectl distribute delegate test-application-1 | kubectl apply -f -")]
pub struct Delegate {
    #[command(flatten)]
    args: BindingArgs,
}

/// Takes it back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What was written until then stays, and is neither updated nor revoked any more.

Examples:
  kubectl distribute undelegate test-application-1
  kubectl distribute undelegate test-application-1 --apply")]
pub struct Undelegate {
    #[command(flatten)]
    args: BindingArgs,
}

impl Delegate {
    /// Shows the RoleBinding, or applies it and looks whether it does what it should.
    pub async fn answer(&self) -> Result<ExitCode, Error> {
        self.args.color.apply();
        if !self.args.apply {
            return self.args.show("kubectl apply -f -").await;
        }
        let (place, binding) = self.args.open().await?;
        let done = place.bind(binding).await?;
        output::print(&format!("rolebinding {} in namespace {} {done}\n", place.name, place.namespace))?;
        let checked = place.review().until_allowed().await?;
        output::print(&format!("checked: {checked}\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Undelegate {
    /// Shows the RoleBinding, or deletes it and looks whether anything else lets the operator in.
    pub async fn answer(&self) -> Result<ExitCode, Error> {
        self.args.color.apply();
        if !self.args.apply {
            return self.args.show("kubectl delete -f -").await;
        }
        let (place, binding) = self.args.open().await?;
        let done = place.unbind(&binding).await?;
        output::print(&format!("rolebinding {} in namespace {} {done}\n", place.name, place.namespace))?;
        let checked = place.review().until_refused().await?;
        output::print(&format!("checked: {checked}\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl BindingArgs {
    /// Prints the RoleBinding. No cluster is asked, if the namespace is named.
    async fn show(&self, next: &str) -> Result<ExitCode, Error> {
        let namespace = match self.named()? {
            Some(namespace) => namespace,
            None => self.cluster.connect().await?.namespace,
        };
        output::print_yaml(&self.binding(&namespace)?)?;
        output::tell(&format!("shown only: add --apply, or pipe it into {next}"));
        Ok(ExitCode::SUCCESS)
    }

    async fn open(&self) -> Result<(Place, RoleBinding), Error> {
        let cluster = self.cluster.connect().await?;
        let namespace = self.named()?.unwrap_or(cluster.namespace);
        let binding = self.binding(&namespace)?;
        let place = Place {
            bindings: Api::namespaced(cluster.client.clone(), namespace.as_str()),
            review: Review::new(cluster.client, &namespace, self)?,
            name: binding.name_any(),
            access: self.secrets_access,
            namespace,
        };
        Ok((place, binding))
    }

    fn named(&self) -> Result<Option<NamespaceName>, Error> {
        let place = self.place.as_deref().map(NamespaceName::parse).transpose();
        Ok(place.map_err(|error| Error::argument("NAMESPACE", error))?.or(self.cluster.named_namespace()?))
    }

    fn binding(&self, namespace: &NamespaceName) -> Result<RoleBinding, Error> {
        let home = self.operator.namespace()?;
        // A ServiceAccount is called as a Secret may be.
        SecretName::parse(&self.service_account).map_err(|error| Error::argument("--service-account", error))?;
        Ok(rbac::delegation(self.secrets_access, Some(namespace.as_str()), home.as_str(), &self.service_account))
    }
}

/// The RoleBinding of a namespace.
struct Place {
    bindings: Api<RoleBinding>,
    review: Review,
    namespace: NamespaceName,
    name: String,
    access: SecretsAccess,
}

impl Place {
    fn review(&self) -> &Review {
        &self.review
    }

    /// Makes the binding, or adds the operator to it. Answers with what was done.
    async fn bind(&self, wanted: RoleBinding) -> Result<&'static str, Error> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let Some(mut found) = self.found().await? else {
            let created = self.bindings.create(&params, &wanted).await;
            return created.map(|_| "created").map_err(|error| self.not_created(error, &wanted.role_ref.name));
        };
        if found.role_ref != wanted.role_ref {
            return Err(Error::Failed(format!(
                "rolebinding {} in namespace {} binds {} {}, and a binding cannot be changed to another role. If it is \
                 not needed:\n  kubectl delete rolebinding {} -n {}",
                self.name, self.namespace, found.role_ref.kind, found.role_ref.name, self.name, self.namespace
            )));
        }
        let subjects = found.subjects.get_or_insert_default();
        let missing: Vec<_> =
            wanted.subjects.into_iter().flatten().filter(|subject| !subjects.contains(subject)).collect();
        if missing.is_empty() {
            return Ok("unchanged");
        }
        subjects.extend(missing);
        let replaced = self.bindings.replace(&self.name, &params, &found).await;
        replaced.map(|_| "changed: the operator is one more of its subjects").map_err(|e| self.failure(e, "update"))
    }

    /// Deletes the binding, or takes the operator out of it. Answers with what was done.
    async fn unbind(&self, unwanted: &RoleBinding) -> Result<&'static str, Error> {
        let Some(mut found) = self.found().await? else { return Ok("does not exist") };
        let is_operator = |subject: &Subject| unwanted.subjects.iter().flatten().any(|operator| operator == subject);
        let (operator, others): (Vec<_>, Vec<_>) =
            found.subjects.take().unwrap_or_default().into_iter().partition(is_operator);
        match (operator.is_empty(), others.is_empty()) {
            (true, false) => Ok("unchanged: the operator is none of its subjects"),
            (false, false) => {
                found.subjects = Some(others);
                let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
                let replaced = self.bindings.replace(&self.name, &params, &found).await;
                replaced.map(|_| "changed: the operator is taken out").map_err(|error| self.failure(error, "update"))
            }
            (_, true) => {
                let same = Preconditions { uid: found.metadata.uid, resource_version: None };
                let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
                let deleted = self.bindings.delete(&self.name, &params).await;
                deleted.map(|_| "deleted").map_err(|error| self.failure(error, "delete"))
            }
        }
    }

    async fn found(&self) -> Result<Option<RoleBinding>, Error> {
        self.bindings.get_opt(&self.name).await.map_err(|error| self.failure(error, "get"))
    }

    /// RBAC looks into the role, to see whether the caller holds what it grants.
    fn not_created(&self, error: kube::Error, role: &str) -> Error {
        let missing = |status: &kube::core::Status| status.code == 404 && status.message.contains(role);
        match error {
            kube::Error::Api(status) if missing(&status) => Error::Failed(format!(
                "the cluster has no ClusterRole {role}. The platform team makes it:\n  kubectl apply -f {}",
                rbac::tenant_file(self.access)
            )),
            other => self.failure(other, "create"),
        }
    }

    fn failure(&self, error: kube::Error, verb: &'static str) -> Error {
        let namespace = Some(self.namespace.to_string());
        Error::of_call(error, &Right { verb, resource: "rolebindings", group: RBAC, namespace })
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
