// SPDX-License-Identifier: Apache-2.0

package trap

// What TestMain needs of the tests in this package.

var Callers = callers

const CallersEnv = callersEnv
