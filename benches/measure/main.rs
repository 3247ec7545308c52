//! Measures keydrift, always beside a floor in the same run: what the same work costs at the very least.
//!
//! `cargo bench` measures everything, `cargo bench -- processes` (or `storage`, `instructions`) that alone.
//!
//! | argument | does |
//! | --- | --- |
//! | `--write FILE` | puts the tables into a document, between its marks |
//! | `--rounds N` | measures each thing so often, in turns |
//! | `--million` | also an organization of a million keys |
//! | `--quick` | tiny sizes: shows in seconds that all of it works |
//! | `--binary FILE` | measures this binary instead of the one just built |
//!
//! `processes` runs the binary against a simulated organization on loopback, `storage` looks at the files that it makes,
//! `instructions` counts what the library executes. Nothing leaves the machine.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is what a benchmark is for")]

mod download;
mod history;
mod insert;
mod instructions;
mod place;
mod process;
mod processes;
mod storage;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use table::Report;

/// What is asked for on the command line.
#[derive(Debug)]
struct Wish {
    parts: Vec<String>,
    binary: PathBuf,
    quick: bool,
    million: bool,
    rounds: usize,
    write: Option<PathBuf>,
}

const PARTS: [&str; 3] = ["processes", "storage", "instructions"];

impl Wish {
    fn read(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut wish = Self {
            parts: Vec::new(),
            binary: env!("CARGO_BIN_EXE_keydrift").into(),
            quick: false,
            million: false,
            rounds: 5,
            write: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().with_context(|| format!("`{argument}` lacks a value"));
            match argument.as_str() {
                "--quick" => (wish.quick, wish.rounds) = (true, 1),
                "--million" => wish.million = true,
                "--rounds" => wish.rounds = value()?.parse::<usize>()?.max(1),
                "--write" => wish.write = Some(value()?.into()),
                "--binary" => wish.binary = std::path::absolute(value()?)?,
                // What `cargo bench` adds.
                "--bench" => {}
                part if PARTS.contains(&part) => wish.parts.push(argument),
                other => bail!("`{other}` is not known; there are {}", PARTS.join(", ")),
            }
        }
        Ok(wish)
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }
}

fn main() -> anyhow::Result<()> {
    let wish = Wish::read(std::env::args().skip(1))?;
    if wish.wants("processes") {
        publish(&wish, &processes::measure(&wish)?)?;
    }
    if wish.wants("storage") {
        publish(&wish, &storage::measure(&wish)?)?;
    }
    if wish.wants("instructions") {
        publish(&wish, &instructions::measure(&wish)?)?;
    }
    Ok(())
}

/// Prints the tables, and puts them where they are asked for.
fn publish(wish: &Wish, report: &Report) -> anyhow::Result<()> {
    println!("\n{}", report.render());
    let write = |file: &Path| report.put(file).with_context(|| format!("{}", file.display()));
    wish.write.as_deref().map_or(Ok(()), write)
}
