CREATE INDEX failed_logins_in_time ON failed_logins (first_at);
