"""What good images look like under a frozen teacher, remembered instead of learnt."""
