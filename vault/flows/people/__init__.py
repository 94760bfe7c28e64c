"""People in work: read whole profiles at one moment, change a draft of them, write it back in one statement."""
