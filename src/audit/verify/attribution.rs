//! Who did it: what a verifier looks at beside the digest.

use super::{Chain, Verifier};
use crate::audit::attribution::AttributionRecord;
use crate::audit::record::RunRecord;

impl Verifier<'_> {
    pub fn attribution(&mut self, attribution: AttributionRecord) {
        if let Some(current) = self.current.as_mut() {
            let [.., hasher] = &mut current.hashers;
            attribution.with_item(|item| hasher.attribution(item));
            current.attributions.push(attribution);
        }
    }

    /// An attribution of a run that is not there.
    pub fn stray_attribution(&mut self, organization: &str, attribution: &AttributionRecord) {
        if let Some(chain) = self.chains.get_mut(organization) {
            let what = format!("attribution {} was inserted", attribution.attribution_id);
            chain.fail(Some(attribution.run_id), &what);
        }
    }
}

impl Chain {
    /// Each must be of an event that was there by then, in the same organization, and of its kind.
    pub(super) fn check_attributions(
        &self,
        run: &RunRecord,
        attributions: &[AttributionRecord],
    ) -> Option<String> {
        // Nothing that is older than the chain was attributed, and no adoption vouches for any.
        if let Some(inserted) = attributions.first().filter(|_| run.digest.is_none()) {
            return Some(format!("attribution {} was inserted", inserted.attribution_id));
        }
        let misfit =
            |of: &AttributionRecord| of.misfit(&self.verdict.organization, self.unread_until);
        attributions.iter().find_map(misfit)
    }
}
