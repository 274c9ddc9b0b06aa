//! Each kind of row: its ids, its input, its output.

use store::{Edit, Entity, Key, Kind, Row, State};

use super::resources::Resource;
use crate::problem::Problem;
use crate::wire::{
    AddressSet, AddressSetInput, Group, GroupInput, GuardedNetwork, GuardedNetworkInput, Port, PortInput,
    Project, ProjectInput, ProviderRule, ProviderRuleInput, Rule, RuleInput, invalid, provider_rule,
};

pub(super) struct Projects;
pub(super) struct Groups;
pub(super) struct Rules;
pub(super) struct Sets;
pub(super) struct Ports;
pub(super) struct ProviderRules;
pub(super) struct GuardedNetworks;

/// What every resource but the guarded networks says in the same words.
macro_rules! by_id {
    ($kind:ident, $input:ident, $output:ident) => {
        const KIND: Kind = Kind::$kind;
        type Input = $input;
        type Output = $output;

        fn key(id: &str) -> Option<Key> {
            id.parse().ok().map(Key::$kind)
        }

        fn id(input: &$input) -> Option<&str> {
            input.id.as_deref()
        }

        fn with_id(mut input: $input, id: String) -> $input {
            input.id = Some(id);
            input
        }

        fn output(row: &Row) -> Option<$output> {
            match &row.entity {
                Entity::$kind(entity) => Some((entity, row.revision).into()),
                _ => None,
            }
        }
    };
}

impl Resource for Projects {
    by_id!(Project, ProjectInput, Project);

    fn entity(input: ProjectInput, existing: Option<&Entity>, _: &State) -> Result<Entity, Problem> {
        let existing = match existing {
            Some(Entity::Project(project)) => Some(project),
            _ => None,
        };
        input.project(existing).map(Entity::Project)
    }
}

impl Resource for Groups {
    by_id!(Group, GroupInput, Group);

    fn create(input: GroupInput, _: &State) -> Result<Vec<Edit>, Problem> {
        input.create()
    }

    fn entity(input: GroupInput, _: Option<&Entity>, _: &State) -> Result<Entity, Problem> {
        input.group().map(Entity::Group)
    }
}

impl Resource for Rules {
    by_id!(Rule, RuleInput, Rule);

    fn entity(input: RuleInput, existing: Option<&Entity>, _: &State) -> Result<Entity, Problem> {
        match existing {
            Some(Entity::Rule(rule)) => input.group_rule(&rule.group).map(Entity::Rule),
            // A rule is made through its group's path.
            _ => Err(invalid("", "a rule needs a group")),
        }
    }
}

impl Resource for Sets {
    by_id!(Set, AddressSetInput, AddressSet);

    fn entity(input: AddressSetInput, _: Option<&Entity>, _: &State) -> Result<Entity, Problem> {
        input.set().map(Entity::Set)
    }
}

impl Resource for Ports {
    by_id!(Port, PortInput, Port);

    fn entity(input: PortInput, _: Option<&Entity>, _: &State) -> Result<Entity, Problem> {
        input.port().map(Entity::Port)
    }
}

impl Resource for ProviderRules {
    by_id!(ProviderRule, ProviderRuleInput, ProviderRule);

    fn entity(input: ProviderRuleInput, _: Option<&Entity>, state: &State) -> Result<Entity, Problem> {
        provider_rule(input, state).map(Entity::ProviderRule)
    }
}

impl Resource for GuardedNetworks {
    const KIND: Kind = Kind::GuardedNetwork;
    type Input = GuardedNetworkInput;
    type Output = GuardedNetwork;

    fn key(id: &str) -> Option<Key> {
        (!id.is_empty()).then(|| Key::GuardedNetwork(id.to_owned()))
    }

    fn id(input: &GuardedNetworkInput) -> Option<&str> {
        Some(&input.name)
    }

    fn with_id(_: GuardedNetworkInput, name: String) -> GuardedNetworkInput {
        GuardedNetworkInput { name }
    }

    fn entity(input: GuardedNetworkInput, _: Option<&Entity>, _: &State) -> Result<Entity, Problem> {
        Ok(Entity::GuardedNetwork(input.name))
    }

    fn output(row: &Row) -> Option<GuardedNetwork> {
        match &row.entity {
            Entity::GuardedNetwork(name) => {
                Some(GuardedNetwork { name: name.clone(), revision: row.revision })
            }
            _ => None,
        }
    }
}
