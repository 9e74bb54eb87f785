"""What was true: the suppression oracle, metrics, statistics, verdicts, report, replay."""
