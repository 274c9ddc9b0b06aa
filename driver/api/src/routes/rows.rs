//! `/v1/projects`, `/v1/groups`, `/v1/sets`, `/v1/ports`, `/v1/provider-rules`, `/v1/guarded-networks`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::handlers::{create, delete, get, handlers, list, replace};
use super::kinds::{Groups, GuardedNetworks, Ports, Projects, ProviderRules, Sets};
use super::query::ListQuery;
use super::resources;
use crate::extract::{Body, Editor, IfMatch, Parameters, Segment};
use crate::problem::Problem;
use crate::wire::{
    AddressSet, AddressSetInput, Group, GroupInput, GuardedNetwork, GuardedNetworkInput, Page, Port,
    PortInput, Project, ProjectInput, ProviderRule, ProviderRuleInput,
};

handlers! {
    projects {
        list!(Projects, Project, "/v1/projects", "projects");
        create!(Projects, ProjectInput, Project, "/v1/projects", "projects");
        get!(Projects, Project, "/v1/projects/{id}", "projects");
        replace!(Projects, ProjectInput, Project, "/v1/projects/{id}", "projects");
        delete!(Projects, "/v1/projects/{id}", "projects");
    }
    groups {
        list!(Groups, Group, "/v1/groups", "groups");
        create!(Groups, GroupInput, Group, "/v1/groups", "groups");
        get!(Groups, Group, "/v1/groups/{id}", "groups");
        replace!(Groups, GroupInput, Group, "/v1/groups/{id}", "groups");
        delete!(Groups, "/v1/groups/{id}", "groups");
    }
    sets {
        list!(Sets, AddressSet, "/v1/sets", "sets");
        create!(Sets, AddressSetInput, AddressSet, "/v1/sets", "sets");
        get!(Sets, AddressSet, "/v1/sets/{id}", "sets");
        replace!(Sets, AddressSetInput, AddressSet, "/v1/sets/{id}", "sets");
        delete!(Sets, "/v1/sets/{id}", "sets");
    }
    ports {
        create!(Ports, PortInput, Port, "/v1/ports", "ports");
        replace!(Ports, PortInput, Port, "/v1/ports/{id}", "ports");
        delete!(Ports, "/v1/ports/{id}", "ports");
    }
    provider_rules {
        list!(ProviderRules, ProviderRule, "/v1/provider-rules", "provider-rules");
        create!(ProviderRules, ProviderRuleInput, ProviderRule, "/v1/provider-rules", "provider-rules");
        get!(ProviderRules, ProviderRule, "/v1/provider-rules/{id}", "provider-rules");
        replace!(ProviderRules, ProviderRuleInput, ProviderRule, "/v1/provider-rules/{id}", "provider-rules");
        delete!(ProviderRules, "/v1/provider-rules/{id}", "provider-rules");
    }
    guarded_networks {
        list!(GuardedNetworks, GuardedNetwork, "/v1/guarded-networks", "guarded-networks");
        create!(GuardedNetworks, GuardedNetworkInput, GuardedNetwork, "/v1/guarded-networks", "guarded-networks");
        get!(GuardedNetworks, GuardedNetwork, "/v1/guarded-networks/{id}", "guarded-networks");
        delete!(GuardedNetworks, "/v1/guarded-networks/{id}", "guarded-networks");
    }
}

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(projects::list_all, projects::create_one))
        .routes(routes!(projects::get_one, projects::replace_one, projects::delete_one))
        .routes(routes!(groups::list_all, groups::create_one))
        .routes(routes!(groups::get_one, groups::replace_one, groups::delete_one))
        .routes(routes!(sets::list_all, sets::create_one))
        .routes(routes!(sets::get_one, sets::replace_one, sets::delete_one))
        .routes(routes!(super::ports::list_all, ports::create_one))
        .routes(routes!(super::ports::get_one, ports::replace_one, ports::delete_one))
        .routes(routes!(provider_rules::list_all, provider_rules::create_one))
        .routes(routes!(provider_rules::get_one, provider_rules::replace_one, provider_rules::delete_one))
        .routes(routes!(guarded_networks::list_all, guarded_networks::create_one))
        .routes(routes!(guarded_networks::get_one, guarded_networks::delete_one))
}
