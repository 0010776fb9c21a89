//! A policy that has been compiled: parse, don't validate.

mod cover;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{
    glob::{Glob, Over},
    invalid::InvalidField,
    name::{NamespaceName, PolicyName, SecretType},
    selector::Selector,
};
use crate::api::{self, DistributionPolicy, Effect, Enforcement, RevocationAction, names};

/// The longest grace period, 720 hours. The schema says the same.
const MAX_GRACE: SignedDuration = SignedDuration::from_hours(720);

/// The longest time a rate limit is about. The schema says the same.
const MAX_RATE_PERIOD: SignedDuration = SignedDuration::from_hours(24);

/// A namespace as the decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: NamespaceName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is being deleted.
    pub terminating: bool,
}

impl Namespace {
    /// A namespace of which nothing but the name is known: no selector matches it.
    pub fn unknown(name: &NamespaceName) -> Self {
        Self { name: name.clone(), labels: BTreeMap::new(), terminating: false }
    }
}

/// Namespaces by glob, by label, or both (then both must match). Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSet {
    names: Vec<Glob>,
    selector: Option<Selector>,
}

impl NamespaceSet {
    pub(super) fn parse(set: &api::NamespaceMatch, field: &str) -> Result<Self, InvalidField> {
        let names = globs(&set.names, Over::Namespaces, &format!("{field}.names"))?;
        let selector = set.selector.as_ref().map(Selector::parse).transpose();
        let selector = selector.map_err(|e| InvalidField::new(format!("{field}.selector"), e))?;
        if names.is_empty() && selector.is_none() {
            return Err(InvalidField::new(field, "give names or a selector: without either no namespace is meant"));
        }
        Ok(Self { names, selector })
    }

    /// Whether the namespace is one of these.
    pub fn contains(&self, namespace: &Namespace) -> bool {
        let named = self.names.is_empty() || any(&self.names, namespace.name.as_str());
        named && self.selector.as_ref().is_none_or(|selector| selector.matches(&namespace.labels))
    }

    /// Whether the namespace is written out: by no glob and no selector. Only this opens an excluded namespace.
    pub fn names_literally(&self, namespace: &NamespaceName) -> bool {
        let literal = |glob: &Glob| glob.is_literal() && glob.as_str() == namespace.as_str();
        self.selector.is_none() && self.names.iter().any(literal)
    }

    /// Whether the selector allows no namespace of these names: none of them is ever meant.
    pub fn excludes_its_names(&self) -> bool {
        let allowed = self.selector.as_ref().and_then(Selector::names);
        let fits = |name: &str| any(&self.names, name);
        !self.names.is_empty() && allowed.is_some_and(|mut names| !names.any(fits))
    }

    /// Whether it selects by labels that a tenant may be able to set.
    pub fn is_on_mutable_labels(&self) -> bool {
        self.selector.as_ref().is_some_and(|selector| !selector.is_on_guaranteed_labels())
    }
}

/// What happens to a Secret when its grant goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// It is deleted after this time, whole seconds.
    Delete(SignedDuration),
    /// It stays, and is written no more.
    Retain,
}

impl Revocation {
    /// What holds if two policies grant the same: the stricter one. Retain only if both say so.
    pub fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Delete(a), Self::Delete(b)) => Self::Delete(a.min(b)),
            (Self::Delete(grace), Self::Retain) | (Self::Retain, Self::Delete(grace)) => Self::Delete(grace),
            (Self::Retain, Self::Retain) => Self::Retain,
        }
    }
}

/// How fast Secrets may be written into one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time in which one write becomes possible; above zero.
    pub interval: Duration,
    /// Writes that may come at once; at least one.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `None` for a rate that makes no sense: no write at all, or more than one in a nanosecond.
    pub fn new(writes: u32, per: Duration, burst: u32) -> Option<Self> {
        let interval = per.checked_div(writes).filter(|interval| !interval.is_zero())?;
        Some(Self { interval, burst: NonZeroU32::new(burst)? })
    }

    /// What holds if two policies limit the same namespace: the slower pace, and the smaller burst.
    pub fn stricter(self, other: Self) -> Self {
        Self { interval: self.interval.max(other.interval), burst: self.burst.min(other.burst) }
    }
}

/// A `DistributionPolicy` whose every field has been checked and compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// The generation that was compiled.
    pub generation: i64,
    /// Whether it decides, or only reports.
    pub enforcement: Enforcement,
    /// The destinations it speaks about.
    pub namespaces: NamespaceSet,
    /// Its rules, in the order they are written; the order decides nothing.
    pub rules: Vec<Rule>,
    /// How fast Secrets are written into a destination.
    pub rate: Option<Rate>,
    /// Most distributions a destination may have.
    pub max_distributions: Option<u32>,
    /// What happens when a grant of it goes.
    pub revocation: Revocation,
    /// In force from here on.
    pub not_before: Option<Timestamp>,
    /// Not in force from here on.
    pub not_after: Option<Timestamp>,
}

impl Policy {
    /// Compiles a policy. One that cannot be compiled grants and denies nothing.
    pub fn parse(object: &DistributionPolicy) -> Result<Self, InvalidField> {
        let spec = &object.spec;
        if spec.rules.is_empty() {
            return Err(InvalidField::new("spec.rules", "must have at least one rule"));
        }
        let rules = spec.rules.iter().enumerate().map(|(i, rule)| Rule::parse(rule, i)).collect::<Result<_, _>>()?;
        let (not_before, not_after) = (spec.not_before.as_ref().map(|t| t.0), spec.not_after.as_ref().map(|t| t.0));
        if not_before.zip(not_after).is_some_and(|(before, after)| before >= after) {
            return Err(InvalidField::new("spec.notBefore", "must be earlier than notAfter"));
        }
        Ok(Self {
            name: PolicyName::admitted(&object.name_any()),
            generation: object.metadata.generation.unwrap_or_default(),
            enforcement: spec.enforcement,
            namespaces: NamespaceSet::parse(&spec.namespaces, "spec.namespaces")?,
            rules,
            rate: spec.rate_limit.as_ref().map(rate).transpose()?,
            max_distributions: spec.limits.as_ref().and_then(|limits| limits.distributions),
            revocation: revocation(&spec.revocation)?,
            not_before,
            not_after,
        })
    }

    /// Whether another version of it grants, denies, limits and revokes the same.
    pub fn says_the_same(&self, other: &Self) -> bool {
        Self { generation: other.generation, ..self.clone() } == *other
    }

    /// Whether `now` lies within the policy's time.
    pub fn is_in_time(&self, now: Timestamp) -> bool {
        self.has_begun(now) && !self.is_expired(now)
    }

    /// Whether the policy's time has come.
    pub fn has_begun(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|from| from <= now)
    }

    /// Whether the policy's time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.not_after.is_some_and(|end| end <= now)
    }

    /// The next instant after `now` at which the policy comes into force or leaves it.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        [self.not_before, self.not_after].into_iter().flatten().filter(|t| *t > now).min()
    }

    /// Whether it selects namespaces, destinations or requesters, by labels that a tenant may be able to set.
    pub fn is_on_mutable_labels(&self) -> bool {
        let requesters = self.rules.iter().filter_map(|rule| rule.requested_from.as_ref());
        std::iter::once(&self.namespaces).chain(requesters).any(NamespaceSet::is_on_mutable_labels)
    }
}

/// One compiled rule. An empty list means that the field was omitted; what that means depends on the effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Allow or Deny.
    pub effect: Effect,
    sources: Vec<Glob>,
    keys: Vec<Glob>,
    types: BTreeSet<SecretType>,
    secret_names: Vec<Glob>,
    requested_from: Option<NamespaceSet>,
    /// Whether a request may take over an unowned Secret.
    pub adopt: bool,
}

impl Rule {
    fn parse(rule: &api::PolicyRule, index: usize) -> Result<Self, InvalidField> {
        let field = format!("spec.rules[{index}]");
        if rule.sources.is_empty() {
            return Err(InvalidField::new(format!("{field}.sources"), "must name at least one source"));
        }
        let requested_from = rule.requested_from.as_ref();
        let requested_from =
            requested_from.map(|set| NamespaceSet::parse(set, &format!("{field}.requestedFrom"))).transpose()?;
        Ok(Self {
            effect: rule.effect,
            sources: globs(&rule.sources, Over::Sources, &format!("{field}.sources"))?,
            keys: globs(&rule.keys, Over::Keys, &format!("{field}.keys"))?,
            types: types(&rule.types, &format!("{field}.types"))?,
            secret_names: globs(&rule.secret_names, Over::SecretNames, &format!("{field}.secretNames"))?,
            requested_from,
            adopt: rule.adopt,
        })
    }

    /// Whether the rule names the source.
    pub fn has_source(&self, source: &str) -> bool {
        any(&self.sources, source)
    }

    /// Whether the rule is about the key.
    pub fn has_key(&self, key: &str) -> bool {
        self.keys.is_empty() || any(&self.keys, key)
    }

    /// Whether the rule is about the type. Omitted: the six data types in an Allow, any in a Deny.
    pub fn has_type(&self, secret_type: &SecretType) -> bool {
        match (self.types.is_empty(), self.effect) {
            (false, _) => self.types.contains(secret_type),
            (true, Effect::Allow) => names::DATA_TYPES.contains(&secret_type.as_str()),
            (true, Effect::Deny) => true,
        }
    }

    /// Whether the rule is about the name of the Secret.
    pub fn has_secret_name(&self, name: &str) -> bool {
        self.secret_names.is_empty() || any(&self.secret_names, name)
    }

    /// Whether the rule is about requests from there. Omitted: the destination itself in an Allow, any in a Deny.
    pub fn has_requester(&self, requester: &Namespace, destination: &Namespace) -> bool {
        match (&self.requested_from, self.effect) {
            (Some(set), _) => set.contains(requester),
            (None, Effect::Allow) => requester.name == destination.name,
            (None, Effect::Deny) => true,
        }
    }
}

fn any(globs: &[Glob], name: &str) -> bool {
    globs.iter().any(|glob| glob.matches(name))
}

fn globs(texts: &[String], over: Over, field: &str) -> Result<Vec<Glob>, InvalidField> {
    texts.iter().enumerate().map(|(i, text)| Glob::parse(text, over, &format!("{field}[{i}]"))).collect()
}

fn types(texts: &[String], field: &str) -> Result<BTreeSet<SecretType>, InvalidField> {
    let parse = |(i, text): (usize, &String)| {
        let field = format!("{field}[{i}]");
        if names::RESERVED_TYPES.contains(&text.as_str()) {
            return Err(InvalidField::new(field, "this type is reserved: no policy can grant it"));
        }
        SecretType::parse(text).map_err(|e| InvalidField::new(field, e))
    };
    texts.iter().enumerate().map(parse).collect()
}

fn rate(limit: &api::RateLimit) -> Result<Rate, InvalidField> {
    let per = duration(limit.per.as_deref().unwrap_or("1m"), MAX_RATE_PERIOD, "spec.rateLimit.per")?;
    let rate = Rate::new(limit.writes, per.unsigned_abs(), limit.burst.unwrap_or(limit.writes));
    rate.ok_or_else(|| InvalidField::new("spec.rateLimit", "writes and burst must be at least 1, and per above 0s"))
}

fn duration(text: &str, most: SignedDuration, field: &str) -> Result<SignedDuration, InvalidField> {
    let parsed = sum(text).filter(|duration| *duration <= most);
    parsed
        .ok_or_else(|| InvalidField::new(field, format!("must be a duration such as 30s, 5m or 1h, at most {most:#}")))
}

/// A duration of the form that the schema demands: one to three times whole seconds, minutes or hours, in any order.
fn sum(text: &str) -> Option<SignedDuration> {
    let parts: Vec<_> = text.split_inclusive(['s', 'm', 'h']).map(part).collect::<Option<_>>()?;
    (1..=3).contains(&parts.len()).then(|| SignedDuration::from_secs(parts.iter().sum()))
}

/// The seconds of one part.
fn part(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_plain = (1..=6).contains(&number.len()) && number.bytes().all(|c| c.is_ascii_digit());
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<i64>().ok().filter(|_| is_plain).map(|number| number * seconds)
}

fn revocation(revocation: &api::Revocation) -> Result<Revocation, InvalidField> {
    let grace = revocation.grace_period.as_deref().unwrap_or("0s");
    let grace = duration(grace, MAX_GRACE, "spec.revocation.gracePeriod")?;
    Ok(match revocation.action {
        RevocationAction::Delete => Revocation::Delete(grace),
        RevocationAction::Retain => Revocation::Retain,
    })
}
