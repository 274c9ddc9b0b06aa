//! Closed lists of words, as the wire has them.

use ruleset::model;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident = $domain:ty, $case:literal { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = $case)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl From<$domain> for $name {
            fn from(value: $domain) -> Self {
                match value {
                    $(<$domain>::$variant => Self::$variant,)*
                }
            }
        }

        impl From<$name> for $domain {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$variant => Self::$variant,)*
                }
            }
        }
    };
}

words! {
    /// Address family.
    Ethertype = model::Family, "lowercase" {
        /// IPv4
        #[serde(alias = "IPv4")]
        Ipv4,
        /// IPv6
        #[serde(alias = "IPv6")]
        Ipv6,
    }
}

words! {
    /// Seen from the guest.
    Direction = model::Direction, "lowercase" {
        /// To the guest.
        Ingress,
        /// From the guest.
        Egress,
    }
}

words! {
    /// What a provider rule does.
    Action = model::Action, "lowercase" {
        /// The packet passes this side's rules.
        Allow,
        /// The packet is dropped.
        Deny,
    }
}

words! {
    /// What becomes of a connection when the rule that allowed it goes.
    OnRuleRemoval = store::OnRuleRemoval, "lowercase" {
        /// It is cut by its next packet.
        Cut,
        /// It lives on until it ends by itself.
        Keep,
    }
}

words! {
    /// The rules a group has without being told.
    ImplicitRules = store::ImplicitRules, "kebab-case" {
        /// Egress to anybody.
        Egress,
        /// Also ingress from itself.
        DefaultGroup,
        /// None.
        None,
    }
}

impl Default for OnRuleRemoval {
    fn default() -> Self {
        store::OnRuleRemoval::default().into()
    }
}

impl Default for ImplicitRules {
    fn default() -> Self {
        store::ImplicitRules::default().into()
    }
}
