//! Whether the operator may do with the Secrets of a namespace what it needs: the API server is asked.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep};

use super::BindingArgs;
use crate::{
    access::SecretsAccess,
    cli::error::{Error, Right},
    core::name::NamespaceName,
    rbac,
};

/// The API server takes a binding in within a moment.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Questions about the operator's rights in one namespace.
pub struct Review {
    reviews: Api<LocalSubjectAccessReview>,
    namespace: NamespaceName,
    user: String,
    groups: Vec<String>,
    access: SecretsAccess,
}

impl Review {
    /// About the operator that the arguments name.
    pub fn new(client: Client, namespace: &NamespaceName, args: &BindingArgs) -> Result<Self, Error> {
        let (home, account) = (args.operator.namespace()?, &args.service_account);
        let group = |of: &str| format!("system:serviceaccounts{of}");
        Ok(Self {
            reviews: Api::namespaced(client, namespace.as_str()),
            namespace: namespace.clone(),
            user: format!("system:serviceaccount:{home}:{account}"),
            groups: vec![group(""), group(&format!(":{home}")), "system:authenticated".into()],
            access: args.secrets_access,
        })
    }

    /// Waits until the operator has every right that it needs. Answers with what can be said.
    pub async fn until_allowed(&self) -> Result<String, Error> {
        let verbs = rbac::tenant_verbs(self.access);
        let Some(allowed) = self.until(|allowed| allowed.len() == verbs.len()).await? else {
            return Ok(format!("the binding is there; whether it works you may not ask ({})", self.right()));
        };
        let missing: Vec<_> = verbs.into_iter().filter(|verb| !allowed.contains(verb)).collect();
        if missing.is_empty() {
            return Ok(format!("{} may {} Secrets in namespace {}", self.user, allowed.join(", "), self.namespace));
        }
        Err(Error::Failed(format!(
            "{} still may not {} Secrets in namespace {}: ClusterRole {} does not exist, or grants less than it should. \
             The platform team applies it:\n  kubectl apply -f {}",
            self.user,
            missing.join(", "),
            self.namespace,
            self.access.cluster_role(),
            rbac::tenant_file(self.access)
        )))
    }

    /// Waits until the operator has none of these rights. Answers with what can be said.
    pub async fn until_refused(&self) -> Result<String, Error> {
        let Some(allowed) = self.until(<[_]>::is_empty).await? else {
            return Ok(format!("the binding is gone; whether another one is there you may not ask ({})", self.right()));
        };
        if allowed.is_empty() {
            return Ok(format!("{} may do nothing with Secrets in namespace {}", self.user, self.namespace));
        }
        Err(Error::Failed(format!(
            "{} still may {} Secrets in namespace {}: another binding says so. Look for it:\n  kubectl get \
             rolebindings,clusterrolebindings -n {} -o wide",
            self.user,
            allowed.join(", "),
            self.namespace,
            self.namespace
        )))
    }

    /// Asks until the answer satisfies, or patience ends. None, if the caller may not ask.
    async fn until(&self, satisfied: impl Fn(&[&'static str]) -> bool) -> Result<Option<Vec<&'static str>>, Error> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut allowed = Vec::new();
            for verb in rbac::tenant_verbs(self.access) {
                match self.may(verb).await {
                    Ok(true) => allowed.push(verb),
                    Ok(false) => {}
                    Err(Error::Forbidden(_)) => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            if satisfied(&allowed) || Instant::now() >= end {
                return Ok(Some(allowed));
            }
            sleep(PAUSE).await;
        }
    }

    async fn may(&self, verb: &str) -> Result<bool, Error> {
        let namespace = Some(self.namespace.to_string());
        let attributes = ResourceAttributes {
            namespace: namespace.clone(),
            verb: Some(verb.into()),
            resource: Some("secrets".into()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(self.user.clone()),
            groups: Some(self.groups.clone()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let metadata = ObjectMeta { namespace, ..ObjectMeta::default() };
        let review = LocalSubjectAccessReview { metadata, spec, status: None };
        let answer = self.reviews.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| Error::of_call(error, &self.right()))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    fn right(&self) -> Right {
        Right {
            verb: "create",
            resource: "localsubjectaccessreviews",
            group: "authorization.k8s.io",
            namespace: Some(self.namespace.to_string()),
        }
    }
}
