//! The pool's records as far as they are known, kept up to date by events.

use std::collections::BTreeMap;

use crate::event::{Event, EventClass, Update};
use crate::reference::Class;
use crate::{Host, Network, Pif, Pool, Ref, Vif, Vm};

/// All records of one class.
pub type Table<R> = BTreeMap<Ref<R>, R>;

/// What objects of one class were before they changed; nothing where the object is new. What they are now stands in
/// the [`Cache`], or does not if they are gone.
pub type Before<R> = BTreeMap<Ref<R>, Option<R>>;

/// The records of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// Hosts.
    pub hosts: Table<Host>,
    /// Networks.
    pub networks: Table<Network>,
    /// Physical interfaces.
    pub pifs: Table<Pif>,
    /// The pool, as a table of one.
    pub pools: Table<Pool>,
    /// VIFs, those of templates and snapshots included.
    pub vifs: Table<Vif>,
    /// VMs, templates, snapshots and control domains included.
    pub vms: Table<Vm>,
}

/// What changed in a [`Cache`], and what it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Hosts.
    pub hosts: Before<Host>,
    /// Networks.
    pub networks: Before<Network>,
    /// Physical interfaces.
    pub pifs: Before<Pif>,
    /// The pool.
    pub pools: Before<Pool>,
    /// VIFs.
    pub vifs: Before<Vif>,
    /// VMs.
    pub vms: Before<Vm>,
}

impl Changed {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { hosts, networks, pifs, pools, vifs, vms } = self;
        hosts.is_empty()
            && networks.is_empty()
            && pifs.is_empty()
            && pools.is_empty()
            && vifs.is_empty()
            && vms.is_empty()
    }
}

impl Cache {
    /// Brings the cache up to date, adding to `changed` what that changed. An event that says what is known already,
    /// as many of XAPI's do, changes nothing.
    ///
    /// Within an answer the order means nothing, and references are never used again: who is gone is gone.
    pub fn update(&mut self, events: Vec<Event>, changed: &mut Changed) {
        let (gone, known): (Vec<_>, Vec<_>) = events.into_iter().partition(Event::is_deletion);
        for event in known.into_iter().chain(gone) {
            match event {
                Event::Host(update) => apply(&mut self.hosts, update, &mut changed.hosts),
                Event::Network(update) => apply(&mut self.networks, update, &mut changed.networks),
                Event::Pif(update) => apply(&mut self.pifs, update, &mut changed.pifs),
                Event::Pool(update) => apply(&mut self.pools, update, &mut changed.pools),
                Event::Vif(update) => apply(&mut self.vifs, update, &mut changed.vifs),
                Event::Vm(update) => apply(&mut self.vms, update, &mut changed.vms),
            }
        }
    }

    /// The cache that events make which tell of every object there is.
    #[must_use]
    pub fn of(events: Vec<Event>) -> Self {
        let mut all = Self::default();
        all.update(events, &mut Changed::default());
        all
    }

    /// Becomes `all`, adding to `changed` what that changed.
    pub fn replace(&mut self, all: Self, changed: &mut Changed) {
        let Self { hosts, networks, pifs, pools, vifs, vms } = all;
        replace(&mut self.hosts, hosts, &mut changed.hosts);
        replace(&mut self.networks, networks, &mut changed.networks);
        replace(&mut self.pifs, pifs, &mut changed.pifs);
        replace(&mut self.pools, pools, &mut changed.pools);
        replace(&mut self.vifs, vifs, &mut changed.vifs);
        replace(&mut self.vms, vms, &mut changed.vms);
    }

    /// How many objects of a class are known.
    #[must_use]
    pub fn count(&self, class: EventClass) -> usize {
        match class {
            EventClass::Host => self.hosts.len(),
            EventClass::Network => self.networks.len(),
            EventClass::Pif => self.pifs.len(),
            EventClass::Pool => self.pools.len(),
            EventClass::Vif => self.vifs.len(),
            EventClass::Vm => self.vms.len(),
        }
    }

    /// A class of which there is another number of objects than `counts` says; what is not counted is none.
    #[must_use]
    pub fn differs_from(&self, counts: &BTreeMap<EventClass, u64>) -> Option<EventClass> {
        let counted = |class: &_| counts.get(class).copied().unwrap_or_default();
        EventClass::ALL.into_iter().find(|class| u64::try_from(self.count(*class)) != Ok(counted(class)))
    }
}

impl Event {
    fn is_deletion(&self) -> bool {
        match self {
            Self::Host(update) => update.record.is_none(),
            Self::Network(update) => update.record.is_none(),
            Self::Pif(update) => update.record.is_none(),
            Self::Pool(update) => update.record.is_none(),
            Self::Vif(update) => update.record.is_none(),
            Self::Vm(update) => update.record.is_none(),
        }
    }
}

fn apply<R: Class + PartialEq>(table: &mut Table<R>, update: Update<R>, changed: &mut Before<R>) {
    let Update { object, record } = update;
    if table.get(&object) == record.as_ref() {
        return;
    }
    let before = match record {
        Some(record) => table.insert(object.clone(), record),
        None => table.remove(&object),
    };
    // Changed before, and not looked at since: then this is what it was.
    let before = changed.remove(&object).unwrap_or(before);
    if table.get(&object) != before.as_ref() {
        changed.insert(object, before);
    }
}

fn replace<R: Class + PartialEq>(table: &mut Table<R>, all: Table<R>, changed: &mut Before<R>) {
    let gone: Vec<_> = table.keys().filter(|known| !all.contains_key(*known)).cloned().collect();
    let gone = gone.into_iter().map(|object| Update { object, record: None });
    let known = all.into_iter().map(|(object, record)| Update { object, record: Some(record) });
    for update in gone.chain(known) {
        apply(table, update, changed);
    }
}

#[cfg(test)]
mod tests;
