//! The file as a document for the daemon, and where each part of it stands.
//!
//! Groups and sets may be named here that only the store has: what makes sense is the daemon's to say. Its answer names a
//! place in the document, which is turned back into a line of the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::wire;
use ruleset::model::Family;
use toml::Spanned;

use super::convert::provider_position;
use super::{PolicyError, position, raw, read};

/// A policy file on its way to the daemon.
#[derive(Debug)]
pub struct PolicyDocument {
    /// What it says.
    pub document: wire::DocumentInput,
    path: PathBuf,
    text: String,
    /// Byte offsets by JSON pointer.
    places: BTreeMap<String, usize>,
}

impl PolicyDocument {
    /// Reads a file.
    ///
    /// # Errors
    /// [`PolicyError`]
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        Self::parse(path, read(path)?)
    }

    /// Understands a file's text.
    ///
    /// # Errors
    /// [`PolicyError`], if it is not TOML of this form.
    pub fn parse(path: &Path, text: String) -> Result<Self, PolicyError> {
        let file = super::syntax(path, &text)?;
        let mut places = BTreeMap::new();
        let document = document(file, &mut places);
        Ok(Self { document, path: path.to_owned(), text, places })
    }

    /// The file and the line of a place in the document, or the file alone.
    #[must_use]
    pub fn place(&self, pointer: &str) -> String {
        let mut rest = pointer;
        let offset = loop {
            match (self.places.get(rest), rest.rfind('/')) {
                (Some(offset), _) => break Some(*offset),
                (None, Some(end)) => rest = rest.get(..end).unwrap_or_default(),
                (None, None) => break None,
            }
        };
        let path = self.path.display();
        offset.map_or_else(
            || path.to_string(),
            |offset| format!("{path}, line {}", position(&self.text, offset).0),
        )
    }
}

pub(super) fn document(file: raw::File, places: &mut BTreeMap<String, usize>) -> wire::DocumentInput {
    let raw::File { guarded_networks, project, group, set, port, provider_rule } = file;
    let mut document = wire::DocumentInput { guarded_networks, ..wire::DocumentInput::default() };
    for raw in project {
        places.insert(format!("/projects/{}", document.projects.len()), raw.span().start);
        let raw::Project { id, name, description, default_group } = raw.into_inner();
        let default_group = default_group.map(Spanned::into_inner);
        document.projects.push(wire::ProjectInput {
            id: Some(id.into_inner()),
            name,
            description,
            default_group,
        });
    }
    for raw in set {
        places.insert(format!("/sets/{}", document.sets.len()), raw.span().start);
        let raw::Set { id, name, description, project, addresses } = raw.into_inner();
        let addresses = addresses.into_iter().map(Spanned::into_inner).collect();
        let (id, project) = (Some(id.into_inner()), given(project));
        document.sets.push(wire::AddressSetInput { id, project, name, description, addresses });
    }
    for raw in group {
        let pointer = format!("/groups/{}", document.groups.len());
        places.insert(pointer.clone(), raw.span().start);
        let raw::Group { id, name, description, project, implicit_rules, on_rule_removal, rule } =
            raw.into_inner();
        let mut rules = Vec::new();
        for raw in rule {
            let offset = raw.span().start;
            for rule in both_families(rule_input(raw.into_inner())) {
                places.insert(format!("{pointer}/rules/{}", rules.len()), offset);
                rules.push(rule);
            }
        }
        document.groups.push(wire::GroupDocumentInput {
            id: id.into_inner(),
            project: given(project),
            name,
            description,
            on_rule_removal: on_rule_removal.into(),
            implicit_rules: implicit_rules.into(),
            rules,
        });
    }
    for raw in port {
        places.insert(format!("/ports/{}", document.ports.len()), raw.span().start);
        document.ports.push(port_input(raw.into_inner()));
    }
    for (index, raw) in provider_rule.into_iter().enumerate() {
        let offset = raw.span().start;
        let position = provider_position(index, raw.get_ref());
        let (action, rule) = raw.into_inner().split();
        let mut rule = rule_input(rule);
        rule.id.get_or_insert_with(|| format!("provider-{}", index + 1));
        for rule in both_families(rule) {
            places.insert(format!("/provider_rules/{}", document.provider_rules.len()), offset);
            document.provider_rules.push(provider_input(position, action.into(), rule));
        }
    }
    document
}

/// A rule that names no family and no prefix is two. Told apart here, so that the daemon's places are the file's.
fn both_families(rule: wire::RuleInput) -> Vec<wire::RuleInput> {
    if rule.ethertype.is_some() || rule.remote_cidr.is_some() {
        return vec![rule];
    }
    let families = Family::ALL.into_iter().map(|family| wire::RuleInput {
        id: rule.id.as_ref().map(|id| format!("{id}-{family}")),
        ethertype: Some(family.into()),
        ..rule.clone()
    });
    families.collect()
}

fn rule_input(rule: raw::Rule) -> wire::RuleInput {
    let raw::Rule {
        id,
        direction,
        ethertype,
        protocol,
        ports,
        icmp_type,
        icmp_code,
        remote_cidr,
        remote_group,
        remote_set,
        description,
    } = rule;
    // A number goes as text: what is no protocol or port is the daemon's to say.
    let protocol = protocol.map(|protocol| match protocol.into_inner() {
        raw::Protocol::Name(name) => wire::Protocol::Name(name),
        raw::Protocol::Number(number) => wire::Protocol::Name(number.to_string()),
    });
    let ports = ports.map(|ports| match ports.into_inner() {
        raw::Ports::One(number) => wire::Ports::Range(number.to_string()),
        raw::Ports::Range(range) => wire::Ports::Range(range),
    });
    wire::RuleInput {
        id: id.map(Spanned::into_inner),
        direction: direction.into(),
        ethertype: ethertype.map(Into::into),
        protocol,
        ports,
        icmp_type,
        icmp_code,
        remote_cidr: remote_cidr.map(Spanned::into_inner),
        remote_group: remote_group.map(Spanned::into_inner),
        remote_set: remote_set.map(Spanned::into_inner),
        description,
    }
}

fn provider_input(position: u32, action: wire::Action, rule: wire::RuleInput) -> wire::ProviderRuleInput {
    let wire::RuleInput {
        id,
        direction,
        ethertype,
        protocol,
        ports,
        icmp_type,
        icmp_code,
        remote_cidr,
        remote_group,
        remote_set,
        description,
    } = rule;
    wire::ProviderRuleInput {
        id,
        position: Some(position),
        action,
        direction,
        ethertype,
        protocol,
        ports,
        icmp_type,
        icmp_code,
        remote_cidr,
        remote_group,
        remote_set,
        description,
    }
}

fn port_input(port: raw::Port) -> wire::PortInput {
    let raw::Port { id, project, vm, device, vif, groups, addresses, address_pairs, port_security } = port;
    let texts = |list: Vec<Spanned<String>>| list.into_iter().map(Spanned::into_inner).collect();
    let pair = |raw: Spanned<raw::Pair>| {
        let raw::Pair { mac, address } = raw.into_inner();
        wire::AddressPair { mac, address }
    };
    wire::PortInput {
        id,
        project: given(project),
        vm,
        device,
        vif: vif.map(Spanned::into_inner),
        addresses: texts(addresses),
        address_pairs: address_pairs.into_iter().map(pair).collect(),
        groups: texts(groups),
        port_security,
    }
}

/// An empty text says that there is none.
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl From<raw::ImplicitRules> for wire::ImplicitRules {
    fn from(rules: raw::ImplicitRules) -> Self {
        match rules {
            raw::ImplicitRules::Egress => Self::Egress,
            raw::ImplicitRules::DefaultGroup => Self::DefaultGroup,
            raw::ImplicitRules::None => Self::None,
        }
    }
}

impl From<raw::OnRuleRemoval> for wire::OnRuleRemoval {
    fn from(on: raw::OnRuleRemoval) -> Self {
        match on {
            raw::OnRuleRemoval::Cut => Self::Cut,
            raw::OnRuleRemoval::Keep => Self::Keep,
        }
    }
}
