//! Shell completions and manual pages, made from what may be typed.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

use super::args::Arguments;
use super::failure::Failure;
use super::said::Said;

/// What a shell needs to complete this program's arguments.
pub(super) fn completions(shell: Shell) -> Said {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "drawbridge", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let programs = json!({ "shell": shell.to_string(), "script": script });
    Said::well(script, &programs)
}

/// A manual page for each command.
pub(super) fn man(folder: &Path) -> Result<Said, Failure> {
    clap_mangen::generate_to(Arguments::command(), folder)
        .with_context(|| format!("cannot write manual pages to {}", folder.display()))?;
    Ok(Said::well(String::new(), &json!({ "folder": folder })))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command, as the words that call it.
    fn commands(command: &clap::Command, words: &[String]) -> Vec<Vec<String>> {
        let mut all = vec![words.to_vec()];
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            all.extend(commands(sub, &[words, &[sub.get_name().to_owned()]].concat()));
        }
        all
    }

    fn all() -> Vec<Vec<String>> {
        let mut command = Arguments::command();
        command.build();
        commands(&command, &["drawbridge".to_owned()])
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell).people;
            for words in all() {
                let word = words.last().unwrap();
                assert!(script.contains(word.as_str()), "{shell}: {}", words.join(" "));
            }
        }
    }

    #[test]
    fn every_command_has_its_manual_page() {
        let folder = tempfile::tempdir().unwrap();
        man(folder.path()).unwrap();
        let all = all();
        assert!(all.len() > 50, "{all:?}");
        for words in all {
            let page = folder.path().join(format!("{}.1", words.join("-")));
            let text = std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("no {}", page.display()));
            assert!(text.contains(".SH SYNOPSIS"), "{text}");
        }
    }
}
