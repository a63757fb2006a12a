// SPDX-License-Identifier: Apache-2.0

package uidmap

const sleepMachine = 62 // EM_X86_64

// mov $34,%eax (pause); syscall; jmp back
var sleepCode = []byte{0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7}
