"""Error measures, protocols, and roots and boxes that other programs found."""
