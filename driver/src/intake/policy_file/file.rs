//! The file as TOML has it: the API's own words, only that its lists are named after one of their items.

use api::wire::{
    AddressSetInput, DocumentInput, GroupDocumentInput, ImplicitRules, OnRuleRemoval, PortInput,
    ProjectInput, ProviderRuleInput, RuleInput,
};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    guarded_networks: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    project: Vec<ProjectInput>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    group: Vec<Group>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    set: Vec<AddressSetInput>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    port: Vec<PortInput>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    provider_rule: Vec<ProviderRuleInput>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    implicit_rules: ImplicitRules,
    #[serde(default, skip_serializing_if = "is_default")]
    on_rule_removal: OnRuleRemoval,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rule: Vec<RuleInput>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl From<File> for DocumentInput {
    fn from(file: File) -> Self {
        let File { guarded_networks, project: projects, group, mut set, mut port, provider_rule } = file;
        let groups = group.into_iter().map(|group| {
            let Group { id, name, description, project, implicit_rules, on_rule_removal, rule: rules } =
                group;
            GroupDocumentInput { id, project, name, description, on_rule_removal, implicit_rules, rules }
        });
        let mut groups: Vec<_> = groups.collect();
        // An empty text says that there is none.
        let owners = groups.iter_mut().map(|group| &mut group.project);
        let owners = owners.chain(set.iter_mut().map(|set| &mut set.project));
        for owner in owners.chain(port.iter_mut().map(|port| &mut port.project)) {
            owner.take_if(|project| project.is_empty());
        }
        Self { projects, sets: set, groups, ports: port, provider_rules: provider_rule, guarded_networks }
    }
}

impl From<DocumentInput> for File {
    fn from(document: DocumentInput) -> Self {
        let DocumentInput { projects, sets, groups, ports, provider_rules, guarded_networks } = document;
        let group = groups.into_iter().map(|group| {
            let GroupDocumentInput {
                id,
                project,
                name,
                description,
                on_rule_removal,
                implicit_rules,
                rules: rule,
            } = group;
            Group { id, name, description, project, implicit_rules, on_rule_removal, rule }
        });
        Self {
            guarded_networks,
            project: projects,
            group: group.collect(),
            set: sets,
            port: ports,
            provider_rule: provider_rules,
        }
    }
}
