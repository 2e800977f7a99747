#include "textflag.h"

// What runs as a signal's handler has no goroutine: nothing here may use a stack or call
// Go code. The kernel has saved all registers.

// prctl(PR_SET_TIMERSLACK, slack)
TEXT handler<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVD $167, R8
	MOVD $29, R0
	MOVD $50000000, R1
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	SVC
	MOVD R0, ·answer(SB)
	RET

// rt_sigreturn()
TEXT restorer<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVD $139, R8
	SVC
	BRK

// func handlerAddress() uintptr
TEXT ·handlerAddress(SB), NOSPLIT, $0-8
	MOVD $handler<>(SB), R0
	MOVD R0, ret+0(FP)
	RET

// func restorerAddress() uintptr
TEXT ·restorerAddress(SB), NOSPLIT, $0-8
	MOVD $restorer<>(SB), R0
	MOVD R0, ret+0(FP)
	RET
