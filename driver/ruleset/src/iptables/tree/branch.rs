//! Sorted entries as a tree of whatever shape they have, and the same tree made to fit a number of levels.

use super::FLAT;

/// Some neighbouring entries: one, a few that stand side by side, or parts of which each has something in common.
pub(super) struct Branch<'a, T> {
    /// The entries, never none but in the root of nothing.
    pub entries: &'a [T],
    parts: Vec<Self>,
    /// Chains that follow one another below the rule that leads here: 0 for one entry.
    height: usize,
}

/// Splits entries of which there are several into at least two parts.
type Split<'s, T> = dyn for<'a> Fn(&'a [T]) -> Box<dyn Iterator<Item = &'a [T]> + 'a> + 's;

impl<'a, T> Branch<'a, T> {
    /// The tree of all entries.
    pub(super) fn grow(entries: &'a [T], split: &Split<'_, T>) -> Self {
        if entries.len() <= FLAT {
            let parts = entries.chunks(1).map(|entries| Self { entries, parts: Vec::new(), height: 0 });
            return Self { entries, parts: parts.collect(), height: 1 };
        }
        let parts: Vec<_> = split(entries)
            .map(|part| match part {
                [_] => Self { entries: part, parts: Vec::new(), height: 0 },
                _ => Self::grow(part, split),
            })
            .collect();
        let height = 1 + parts.iter().map(|part| part.height).max().unwrap_or(0);
        Self { entries, parts, height }
    }

    /// What this node leads to, if `levels` chains may follow one another from here, this one included: a part that is too
    /// high is replaced by its own.
    pub(super) fn children(&self, levels: usize) -> Vec<&Self> {
        let mut fitting = Vec::new();
        for part in &self.parts {
            if part.height < levels {
                fitting.push(part);
            } else {
                fitting.extend(part.children(levels));
            }
        }
        fitting
    }
}
