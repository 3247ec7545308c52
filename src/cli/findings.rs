//! The arguments of `keydrift findings`.

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::{FormatArg, OrganizationArg};
use crate::findings::{Rule, Severity};

const FINDINGS_NOTES: &str = "\
Each good run judges all keys by the rules of docs/findings.md; this lists what the newest one left
open. Thresholds, rules that are off and exceptions are in the section [findings] of the
configuration, and count from the next run on. TIME in SINCE is when it became true, not when it
was noticed.

Examples:
  keydrift findings --severity high
  keydrift findings --rule unused,never_used --format csv
  keydrift findings --severity medium --exit-code     for a pipeline: 3 if anything is listed
  keydrift findings --history --key wxyz              what was found of a key, and when it ended";

#[derive(Debug, Args)]
#[command(after_help = FINDINGS_NOTES)]
pub struct Findings {
    /// Only findings of this severity or a higher one
    #[arg(long, value_name = "SEVERITY")]
    pub severity: Option<SeverityArg>,
    /// Only findings of this rule; several with commas
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub rule: Vec<RuleArg>,
    /// Only one key: its id, the beginning of its id, its name, or the end of its value (3 or more)
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The closed ones too, in the order in which they were found
    #[arg(long)]
    pub history: bool,
    /// Exit with 3 if anything is listed
    #[arg(long)]
    pub exit_code: bool,
    #[command(flatten)]
    pub organization: OrganizationArg,
    #[command(flatten)]
    pub format: FormatArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SeverityArg {
    Low,
    Medium,
    High,
}

impl From<SeverityArg> for Severity {
    fn from(arg: SeverityArg) -> Self {
        match arg {
            SeverityArg::Low => Self::Low,
            SeverityArg::Medium => Self::Medium,
            SeverityArg::High => Self::High,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct RuleArg(pub Rule);

const RULES: [RuleArg; Rule::ALL.len()] = {
    let mut all = [RuleArg(Rule::ALL[0]); Rule::ALL.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = RuleArg(Rule::ALL[at]);
        at += 1;
    }
    all
};

impl ValueEnum for RuleArg {
    fn value_variants<'a>() -> &'a [Self] {
        &RULES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.as_str()))
    }
}
