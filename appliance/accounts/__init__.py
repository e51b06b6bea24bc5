"""Who may use the box: accounts, log-ins, API tokens, and the record of what they did."""
