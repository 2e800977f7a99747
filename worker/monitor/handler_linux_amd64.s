#include "textflag.h"

// What runs as a signal's handler has no goroutine: nothing here may use a stack or call
// Go code. The kernel has saved all registers.

// prctl(PR_SET_TIMERSLACK, slack)
TEXT handler<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVL $157, AX
	MOVL $29, DI
	MOVL $50000000, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	SYSCALL
	MOVQ AX, ·answer(SB)
	RET

// rt_sigreturn()
TEXT restorer<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVL $15, AX
	SYSCALL
	INT $3

// func handlerAddress() uintptr
TEXT ·handlerAddress(SB), NOSPLIT, $0-8
	LEAQ handler<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func restorerAddress() uintptr
TEXT ·restorerAddress(SB), NOSPLIT, $0-8
	LEAQ restorer<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
