//! Closed lists of words, as the wire has them.

use ruleset::model;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! words {
    ($(#[$meta:meta])* $name:ident = $domain:ty { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        $(#[$meta])*
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
    #[serde(rename_all = "lowercase")]
    Ethertype = model::Family {
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
    #[serde(rename_all = "lowercase")]
    Direction = model::Direction {
        /// To the guest.
        Ingress,
        /// From the guest.
        Egress,
    }
}

words! {
    /// What a provider rule does.
    #[serde(rename_all = "lowercase")]
    Action = model::Action {
        /// The packet passes this side's rules.
        Allow,
        /// The packet is dropped.
        Deny,
    }
}

words! {
    /// What becomes of a connection when the rule that allowed it goes.
    #[serde(rename_all = "lowercase")]
    OnRuleRemoval = store::OnRuleRemoval {
        /// It is cut by its next packet.
        Cut,
        /// It lives on until it ends by itself.
        Keep,
    }
}

words! {
    /// The rules a group has without being told.
    #[serde(rename_all = "kebab-case")]
    ImplicitRules = store::ImplicitRules {
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
