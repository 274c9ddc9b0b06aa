//! What the store holds, as a policy file: to be printed, and to be reasoned about.

use std::collections::BTreeMap;

use api::wire;

use super::file::File;

/// The rows of a store, as the daemon's API gives them.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the types say it")]
pub struct Rows {
    pub projects: Vec<wire::Project>,
    pub sets: Vec<wire::AddressSet>,
    pub groups: Vec<wire::Group>,
    pub rules: Vec<wire::Rule>,
    pub ports: Vec<wire::Port>,
    pub provider_rules: Vec<wire::ProviderRule>,
    pub guarded_networks: Vec<wire::GuardedNetwork>,
}

impl Rows {
    /// As a policy file's text. Applied to the same store it changes nothing.
    ///
    /// # Errors
    /// If TOML has no form for it, which no store's content leads to.
    pub fn to_toml(self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(&File::from(self.document()))
    }

    /// As a document. Its ids are all given.
    fn document(self) -> wire::DocumentInput {
        let Self { projects, sets, groups, rules, ports, mut provider_rules, guarded_networks } = self;
        let mut of_group: BTreeMap<String, Vec<wire::RuleInput>> = BTreeMap::new();
        for rule in rules {
            of_group.entry(rule.group.clone()).or_default().push(rule.into());
        }
        // Among equals the id decides, by which they come.
        provider_rules.sort_by_key(|rule| rule.position);
        let group = |group: wire::Group| {
            let wire::Group { id, project, name, description, on_rule_removal, revision: _ } = group;
            wire::GroupDocumentInput {
                rules: of_group.remove(&id).unwrap_or_default(),
                id,
                project,
                name: Some(name),
                description,
                on_rule_removal,
                implicit_rules: wire::ImplicitRules::None,
            }
        };
        wire::DocumentInput {
            projects: projects.into_iter().map(Into::into).collect(),
            sets: sets.into_iter().map(Into::into).collect(),
            groups: groups.into_iter().map(group).collect(),
            ports: ports.into_iter().map(Into::into).collect(),
            provider_rules: provider_rules.into_iter().map(Into::into).collect(),
            guarded_networks: guarded_networks.into_iter().map(|network| network.name).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
