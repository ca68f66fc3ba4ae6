/*
 * Entry of the bench guest, its tables, and the ways in and out of ring 3.
 *
 * Two entries, one program: Xen's PVH note (32-bit protected mode, paging off, EBX = start info) and the ELF
 * entry of Linux's 64-bit boot protocol (RSI = zero page). Either way the very first thing is a '!' on COM1,
 * the marker of the first instruction, before any table is touched.
 *
 *     monitor ─▶ pvh_entry (32-bit) ─┐
 *     monitor ─▶ linux_entry (64-bit)┴─▶ main (ring 0) ─▶ call_ring3(f) ─▶ f (ring 3) ─▶ ud2 ─▶ back in main
 *
 * Page tables are data: 4 GiB mapped one to one in 2 MiB pages, open to ring 3, so that nothing has to be
 * computed on hosts that emulate ring 0. Way back from ring 3 is #UD: SYSCALL and INT need the very parts
 * of ring 0 that such hosts lack.
 */
#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_DATA 0x1b
#define USER_CODE 0x23
#define COM1 0x3f8
#define PAGE_FLAGS 0x7            /* present, writable, user */
#define LARGE_PAGE_FLAGS 0x87     /* the same, 2 MiB */
#define EFER 0xc0000080
#define EFER_LME 0x100
#define CR0_PG_PE 0x80000011
#define CR4_PAE 0x20

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long pvh_entry

    .text
    .code32
    .globl pvh_entry
pvh_entry:
    movw $COM1, %dx
    movb $'!', %al
    outb %al, %dx
    movl %ebx, pvh_start_info
    lgdt gdt_pointer
    movl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $EFER, %ecx
    movl $EFER_LME, %eax
    xorl %edx, %edx
    wrmsr
    movl $CR0_PG_PE, %eax
    movl %eax, %cr0
    ljmp $KERNEL_CODE, $start64

    .code64
    .globl linux_entry
linux_entry:
    movw $COM1, %dx
    movb $'!', %al
    outb %al, %dx
    movl %esi, linux_zero_page
    movq $pml4, %rax
    movq %rax, %cr3
    lgdt gdt_pointer
    movq $interrupt_stack_top, %rsp
    pushq $KERNEL_CODE
    pushq $start64
    lretq

start64:
    movw $KERNEL_DATA, %ax
    movw %ax, %ss
    movw %ax, %ds
    movw %ax, %es
    movq $kernel_stack_top, %rsp
    lidt idt_pointer
    call guest_main

/* void call_ring3(void (*function)(void)): runs it in ring 3 with interrupts as RFLAGS.IF is now. */
    .globl call_ring3
call_ring3:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushfq
    movq %rsp, kernel_rsp
    pushfq
    popq %rcx
    movq %rdi, %rax
    pushq $USER_DATA
    pushq $user_stack_top
    pushq %rcx
    pushq $USER_CODE
    pushq $1f
    iretq
1:  call *%rax
    ud2

/* #UD: the way back. Interrupts are off (an interrupt gate); popfq restores the caller's. */
    .globl invalid_opcode
invalid_opcode:
    movw $KERNEL_DATA, %ax
    movw %ax, %ss
    movq kernel_rsp, %rsp
    popfq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

/* The device's interrupt: notes when, counts, and ends the interrupt at the local APIC. */
    .globl device_interrupt
device_interrupt:
    pushq %rax
    pushq %rdx
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, interrupt_tsc
    movl $0xfee000b0, %eax        /* EOI */
    movl $0, (%rax)
    incl interrupt_count
    popq %rdx
    popq %rax
    iretq

/*
 * Any other exception: guest_failed(vector, frame), frame[0] being the error code or 0. One stub every 16
 * bytes, so that its address is computed from the vector.
 */
failed:
    movq %rsp, %rsi
    call guest_failed

    .balign 16
    .globl exception_stubs
exception_stubs:
    .irp vector, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    .balign 16
    .if (\vector != 8) && (\vector < 10 || \vector > 14) && (\vector != 17)
    pushq $0
    .endif
    movl $\vector, %edi
    jmp failed
    .endr

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff      /* ring 0 code, 64-bit */
    .quad 0x00cf93000000ffff      /* ring 0 data */
    .quad 0x00cff3000000ffff      /* ring 3 data */
    .quad 0x00affb000000ffff      /* ring 3 code, 64-bit */
    .globl tss_descriptor
tss_descriptor:
    .quad 0, 0                    /* written by main: the linker cannot split an address */
gdt_pointer:
    .word . - gdt - 1
    .quad gdt

    .balign 8
    .globl tss
tss:
    .long 0
    .quad interrupt_stack_top     /* RSP0 */
    .fill 92, 1, 0

    .globl idt_pointer, null_idt_pointer
idt_pointer:
    .word 256 * 16 - 1
    .quad idt
null_idt_pointer:
    .word 0
    .quad 0

    .balign 4096
pml4:
    .quad pdpt + PAGE_FLAGS
    .fill 511, 8, 0
pdpt:
    .quad pd + PAGE_FLAGS, pd + 0x1000 + PAGE_FLAGS, pd + 0x2000 + PAGE_FLAGS, pd + 0x3000 + PAGE_FLAGS
    .fill 508, 8, 0
pd:
    .set page, 0
    .rept 2048
    .quad page + LARGE_PAGE_FLAGS
    .set page, page + 0x200000
    .endr

    .bss
    .balign 4096
    .globl idt
idt:
    .skip 4096
    .skip 8192
kernel_stack_top:
    .skip 8192
interrupt_stack_top:
    .skip 8192
user_stack_top:
kernel_rsp:
    .skip 8
    .globl pvh_start_info, linux_zero_page, interrupt_tsc, interrupt_count
pvh_start_info:
    .skip 4
linux_zero_page:
    .skip 4
interrupt_tsc:
    .skip 8
interrupt_count:
    .skip 8
    .section .note.GNU-stack, "", @progbits
