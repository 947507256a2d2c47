"""Forecasters: from tables to a trained, calibrated, judged and saved network, and to what comes next."""
