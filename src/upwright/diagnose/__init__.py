"""Step two: from a scorecard to named weaknesses."""
