/** Settings of a server whose contents need not survive the machine, and that many tests use at once. */
export const TEST_SETTINGS = {
  fsync: 'off',
  full_page_writes: 'off',
  synchronous_commit: 'off',
  max_connections: '300',
  max_prepared_transactions: '10',
}

/** How the test runner hands its server to the test files: a connection string. */
export const SERVER_VARIABLE = 'WORKSPACE_USAGE_TEST_SERVER'

/** How the test runner hands over its PostgreSQL 15, if it started one: a connection string. */
export const SERVER_15_VARIABLE = 'WORKSPACE_USAGE_TEST_SERVER_15'

/** How the test runner hands over the name of its run. Each of its servers has a template if this is set. */
export const RUN_VARIABLE = 'WORKSPACE_USAGE_TEST_RUN'

/** How the test runner says which PostgreSQL test files start for themselves: the directory of its programs. */
export const PROGRAMS_VARIABLE = 'WORKSPACE_USAGE_TEST_PROGRAMS'
