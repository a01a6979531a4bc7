/** Settings of a server whose data need not survive the machine, and that many tests use at once. */
export const TEST_SETTINGS = {
  fsync: 'off',
  full_page_writes: 'off',
  synchronous_commit: 'off',
  max_connections: '300',
}

/** How the test runner hands its server to the test files: a connection string. */
export const SERVER_VARIABLE = 'WORKSPACE_USAGE_TEST_SERVER'

/** How the test runner hands its run's name to the test files; a template exists if it is set. */
export const RUN_VARIABLE = 'WORKSPACE_USAGE_TEST_RUN'
