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
	MOVQ args+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ steps+16(FP), R12
	MOVQ $435, AX // clone3
	SYSCALL
	TESTQ AX, AX
	JZ   child
	MOVQ AX, r+24(FP)
	RET
child:
	JMP  interpreter<>(SB)

// func interpAddr() uintptr
TEXT ·interpAddr(SB),NOSPLIT,$0-8
	LEAQ interpreter<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// Argument n: the word itself, or what it points to where bit n of the flags says so.
#define ARG(n, reg) \
	MOVQ (ARGS+8*n)(R12), reg; \
	BTQ  $n, BX; \
	JCC  2(PC); \
	MOVQ (reg), reg

// The interpreter: position independent, no stack. R12 = the step.
TEXT interpreter<>(SB),NOSPLIT|NOFRAME,$0-0
next:
	MOVQ FLAGS(R12), BX
	ARG(0, DI)
	ARG(1, SI)
	ARG(2, DX)
	ARG(3, R10)
	ARG(4, R8)
	ARG(5, R9)
	MOVQ NR(R12), AX
	SYSCALL
	MOVQ AX, RETURNED(R12)
	MOVQ STORE(R12), CX
	MOVL AX, (CX)
	CMPQ AX, $-4095
	JCC  error
	BTQ  $8, BX // is there a wanted result?
	JCC  done
	CMPQ AX, WANT(R12)
	JNE  error
done:
	MOVQ IFZERO(R12), CX
	TESTQ AX, AX
	JEQ  goto
	ADDQ $STEP, R12
	JMP  next
error:
	MOVQ ERRNO(R12), CX // the one result that is forgiven; 0: any
	TESTQ CX, CX
	JEQ  any
	CMPQ AX, CX
	JNE  fail
any:
	MOVQ ONERROR(R12), CX
	TESTQ CX, CX
	JEQ  fail
goto:
	MOVQ CX, R12
	JMP  next
fail:
	MOVQ REPORTFD(R12), DI
	LEAQ RECORD(R12), SI
	MOVQ $16, DX
	MOVQ $1, AX // write
	SYSCALL
	MOVQ $126, DI
	MOVQ $231, AX // exit_group
	SYSCALL
	UNDEF
