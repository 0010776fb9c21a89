//! The answer as people read it: a tree for each destination, what the operator has done, and what would help.

use std::collections::BTreeSet;

use super::{
    answer::{Answer, Basis, Destination, Done, MappingAnswer, Told},
    fix::{By, Fix, How, Op, Operation, Patch},
};
use crate::{
    api::{Effect, Enforcement, TargetState, conditions::Reason},
    cli::{
        error::Error,
        output::{
            self,
            style::{BAD, COMMAND, FAINT, GOOD, STRONG, styled},
            tree::Node,
        },
    },
    core::explain::{Time, Tried},
};

/// As many rules that are about other sources are listed; more are only counted.
const FAR_RULES: usize = 5;

/// As many destinations are named on one line.
const NAMES: usize = 8;

/// The answer as text; with every rule and destination, if all is wanted.
pub fn text(answer: &Answer, all: bool) -> Result<String, Error> {
    let (key, secret) = (answer.key(), &answer.secret_name);
    let mut text = format!("{} asks for Secret {secret} of type {}\n", styled(STRONG, &key), answer.secret_type);
    let quiet = |destination: &&Destination| !all && destination.selected && !destination.permitted;
    let (hidden, shown): (Vec<_>, Vec<_>) = answer.destinations.iter().partition(quiet);
    for destination in shown {
        text += &format!("\n{}", tree(destination, answer.basis, all).text());
    }
    if !hidden.is_empty() {
        let names: Vec<_> = hidden.iter().take(NAMES).map(|destination| destination.namespace.as_str()).collect();
        let more = if hidden.len() > NAMES { ", ..." } else { "" };
        let count = hidden.len();
        text += &format!("\nNot granted in {count} more that namespaceSelector matches: {}{more}\n", names.join(", "));
    }
    if answer.destinations.is_empty() && answer.basis == Basis::Policies {
        text += "\nnamespaceSelector matches no namespace\n";
    }
    match &answer.operator {
        Some(told) => text += &operator(told),
        None if answer.basis == Basis::Status => text += "\nThe operator has not looked at it yet\n",
        None => {}
    }
    for destination in &answer.destinations {
        text += &fixes(destination)?;
    }
    Ok(text)
}

fn tree(destination: &Destination, basis: Basis, all: bool) -> Node {
    let mut children: Vec<_> = destination.mappings.iter().map(|mapping| mapping_node(mapping, basis, all)).collect();
    if let Some(quota) = destination.quota_full {
        children.push(Node::leaf(format!("older requests have the {quota} places that policies allow")));
    }
    if let Some(older) = &destination.written_by {
        children.push(Node::leaf(format!("{older}, which is older, writes this Secret")));
    }
    children.extend(destination.done.as_ref().map(done));
    Node::new(format!("{}: {}", styled(STRONG, &destination.namespace), verdict(destination.permitted)), children)
}

fn verdict(permitted: bool) -> String {
    if permitted { styled(GOOD, "permitted") } else { styled(BAD, "not permitted") }
}

fn mapping_node(mapping: &MappingAnswer, basis: Basis, all: bool) -> Node {
    let by = match (&mapping.policy, mapping.rule) {
        (Some(policy), Some(rule)) => format!(" by policy {policy}, rule {rule}"),
        (Some(policy), None) => format!(" by policy {policy}"),
        _ => String::new(),
    };
    let verdict = match mapping.permitted {
        true => format!("{}{by}", styled(GOOD, "granted")),
        false => format!("{}: {}{by}", styled(BAD, "refused"), reasons(&mapping.reasons)),
    };
    let is_far = |tried: &&Tried| tried.mismatches.contains(&Reason::SourceNotPermitted);
    let (far, near): (Vec<_>, Vec<_>) = mapping.rules.iter().partition(is_far);
    let (listed, counted) = if all || far.len() <= FAR_RULES { (far, 0) } else { (Vec::new(), far.len()) };
    let mut children: Vec<_> = near.into_iter().chain(listed).map(|tried| Node::leaf(rule(tried))).collect();
    if counted > 0 {
        children.push(Node::leaf(styled(FAINT, format!("{counted} more rules are about other sources (-o wide)"))));
    }
    if mapping.rules.is_empty() && basis == Basis::Policies {
        children.push(Node::leaf(styled(FAINT, "no policy speaks about the namespace")));
    }
    Node::new(format!("{} → {}: {verdict}", mapping.from, mapping.to), children)
}

fn reasons(reasons: &BTreeSet<Reason>) -> String {
    reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// What became of a rule.
fn rule(tried: &Tried) -> String {
    let effect = if tried.effect == Effect::Allow { "Allow" } else { "Deny" };
    let name = format!("policy {}, rule {} ({effect})", tried.rule.policy, tried.rule.rule);
    if !tried.mismatches.is_empty() {
        let lacks: Vec<_> = tried.mismatches.iter().map(|reason| lack(*reason)).collect();
        return styled(FAINT, format!("{name}: not about this {}", lacks.join(", ")));
    }
    let would = if tried.effect == Effect::Allow { "would grant it" } else { "would refuse it" };
    match (tried.enforcement, tried.time) {
        (Enforcement::Audit, _) => format!("{name}: {would}, but the policy is in Audit"),
        (_, Time::Pending) => format!("{name}: {would}, but its time has not come (notBefore)"),
        (_, Time::Expired) => format!("{name}: {would}, but its time is over (notAfter)"),
        (_, Time::InForce) if tried.effect == Effect::Allow => format!("{name}: {}", styled(GOOD, "grants it")),
        (_, Time::InForce) => format!("{name}: {}", styled(BAD, "refuses it")),
    }
}

fn lack(reason: Reason) -> &'static str {
    match reason {
        Reason::SourceNotPermitted => "source",
        Reason::KeyNotPermitted => "key",
        Reason::TypeNotPermitted => "type",
        Reason::NameNotPermitted => "name of the Secret",
        Reason::RequesterNotPermitted => "requesting namespace",
        _ => "namespace by its literal name",
    }
}

fn done(done: &Done) -> Node {
    let state = match done.state {
        TargetState::Synced => styled(GOOD, "the Secret is as it should be"),
        TargetState::Pending => "the operator acts later by itself".into(),
        TargetState::Denied => "nothing of it is there".into(),
        TargetState::Failed if done.reason.as_deref() == Some(Reason::RevocationBlocked.as_str()) => {
            styled(BAD, "the grant is gone, and what was written stays or may stay")
        }
        TargetState::Failed => styled(BAD, "the operator could not write it"),
        TargetState::Retained => "the grant is gone and the Secret stays".into(),
    };
    let reason = done.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let written = done.last_written.as_deref().map(|time| format!(", last written {time}")).unwrap_or_default();
    Node::leaf(format!("{state}{reason}{written}"))
}

fn operator(told: &Told) -> String {
    let age = if told.current { "" } else { ", of an older generation: it has not seen the last change yet" };
    let mut lines = Vec::new();
    for (i, condition) in told.conditions.iter().enumerate() {
        let style = if condition.status == "True" { GOOD } else { BAD };
        let verdict = styled(style, format!("{}={}", condition.type_, condition.status));
        // Ready says what another has said.
        let is_told = told.conditions[..i].iter().any(|other| other.message == condition.message);
        let message = if is_told { String::new() } else { format!(": {}", condition.message) };
        lines.push(Node::leaf(format!("{verdict} {}{message}", condition.reason)));
    }
    let mut times = Vec::new();
    times.extend(told.last_sync_time.as_ref().map(|time| format!("last wrote a Secret at {time}")));
    times.extend(told.retry_at.as_ref().map(|time| format!("acts again at {time}")));
    times.extend(told.trace_url.as_ref().or(told.trace_id.as_ref()).map(|trace| format!("trace {trace}")));
    lines.extend(times.into_iter().map(Node::leaf));
    format!("\n{}", Node::new(format!("The operator says{age}"), lines).text())
}

fn fixes(destination: &Destination) -> Result<String, Error> {
    let mut text = String::new();
    for (i, fix) in destination.fixes.iter().enumerate() {
        let who = match (i, fix.by) {
            (0, By::PlatformTeam) => "What the platform team can do",
            (0, By::NamespaceAdmin) => "What an admin of the namespace can do",
            (0, By::AppTeam) => "What the app team can do",
            _ => "Or",
        };
        let place = format!("{who}, in {}", destination.namespace);
        let who = if i == 0 { place.as_str() } else { who };
        text += &format!("\n{}: {}\n", styled(STRONG, who), fix.what);
        text += &how(fix)?;
    }
    Ok(text)
}

fn how(fix: &Fix) -> Result<String, Error> {
    Ok(match &fix.how {
        None => String::new(),
        Some(How::Run(command)) => format!("  {}\n", styled(COMMAND, command)),
        Some(How::Apply(policy)) => {
            let manifest = indented(&output::yaml(policy)?);
            format!("  {}\n{manifest}  EOF\n", styled(COMMAND, "kubectl apply -f - << 'EOF'"))
        }
        Some(How::Patches(patches)) => patches.iter().map(patched).collect(),
    })
}

/// The entries as they will stand there, and the command that puts them there.
fn patched(patch: &Patch) -> String {
    let line = |operation: &Operation| match operation.op {
        Op::Add => format!("  # {}: one entry more, {}\n", field(&operation.path), operation.value),
        Op::Replace => format!("  # {}: {}\n", field(&operation.path), operation.value),
    };
    let lines: String = patch.operations.iter().map(line).collect();
    format!("{lines}  {}\n", styled(COMMAND, command(patch)))
}

/// The path of a field as people write it.
fn field(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').filter(|part| !part.is_empty() && *part != "-") {
        match part.bytes().all(|c| c.is_ascii_digit()) {
            true => path += &format!("[{part}]"),
            false if path.is_empty() => path += part,
            false => path += &format!(".{part}"),
        }
    }
    path
}

fn command(patch: &Patch) -> String {
    let operations = serde_json::to_string(&patch.operations).unwrap_or_default();
    // Names and globs have no quote in them.
    format!("kubectl patch distributionpolicy {} --type=json -p '{operations}'", patch.policy)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
