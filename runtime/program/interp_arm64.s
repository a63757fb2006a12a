// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// Offsets of a step; see layout.go.
#define NR 0
#define ARGS 8
#define FLAGS 56
#define WANT 64
#define IFZERO 72
#define ONERROR 80
#define STORE 88
#define RECORD 96
#define RETURNED 104
#define REPORTFD 112
#define ERRNO 120
#define STEP 128

// func spawn(args *cloneArgs, size uintptr, steps unsafe.Pointer) (r uintptr)
// The child interprets the steps, in the parent's memory, without touching a stack.
TEXT ·spawn(SB),NOSPLIT,$0-32
	MOVD args+0(FP), R0
	MOVD size+8(FP), R1
	MOVD steps+16(FP), R19
	MOVD $435, R8 // clone3
	SVC
	CBZ  R0, child
	MOVD R0, r+24(FP)
	RET
child:
	B    interpreter<>(SB)

// func interpAddr() uintptr
TEXT ·interpAddr(SB),NOSPLIT,$0-8
	MOVD $interpreter<>(SB), R0
	MOVD R0, ret+0(FP)
	RET

// Argument n: the word itself, or what it points to where bit n of the flags says so.
#define ARG(n, reg) \
	MOVD (ARGS+8*n)(R19), reg; \
	TBZ  $n, R20, 2(PC); \
	MOVD (reg), reg

// The interpreter: position independent, no stack. R19 = the step.
TEXT interpreter<>(SB),NOSPLIT|NOFRAME,$0-0
next:
	MOVD FLAGS(R19), R20
	ARG(0, R0)
	ARG(1, R1)
	ARG(2, R2)
	ARG(3, R3)
	ARG(4, R4)
	ARG(5, R5)
	MOVD NR(R19), R8
	SVC
	MOVD R0, RETURNED(R19)
	MOVD STORE(R19), R9
	MOVW R0, (R9)
	CMN  $4095, R0
	BCS  error
	TBZ  $8, R20, done // is there a wanted result?
	MOVD WANT(R19), R9
	CMP  R9, R0
	BNE  error
done:
	MOVD IFZERO(R19), R9
	CBZ  R0, goto
	ADD  $STEP, R19
	B    next
error:
	MOVD ERRNO(R19), R9 // the one result that is forgiven; 0: any
	CBZ  R9, any
	CMP  R9, R0
	BNE  fail
any:
	MOVD ONERROR(R19), R9
	CBZ  R9, fail
goto:
	MOVD R9, R19
	B    next
fail:
	MOVD REPORTFD(R19), R0
	ADD  $RECORD, R19, R1
	MOVD $16, R2
	MOVD $64, R8 // write
	SVC
	MOVD $126, R0
	MOVD $94, R8 // exit_group
	SVC
	UNDEF
