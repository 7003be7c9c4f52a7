-- A user's latest uses are found among their latest requests, and each index of a grant costs at each of its ends. Alone
-- in its migration, for it locks out all who read grants.
DROP INDEX emergency_grants_by_activation;
