"""The rollout: what is wanted (`spec`), where it stands (`status`), what comes next (`machine`)."""
