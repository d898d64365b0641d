"""Where observations come from: one file per source, all behind `source.EvidenceSource`."""
