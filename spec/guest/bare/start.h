/*
 * What programs without an operating system have here: start.c makes the bench guest's entry
 * (entry.S, text.c) theirs, runs `bare_main` in ring 0 with interrupts off, and powers off after
 * it.
 */
#ifndef SPEC_BARE_START_H
#define SPEC_BARE_START_H

#include "../../../bench/guest/guest.h"

void bare_main(void);

#endif
