/** Sleep registers of hardware-reduced ACPI. Source: ACPI 6.5 § 4.8.3.7. */

/** WO, u8: sleep control (FADT `SLEEP_CONTROL_REG`), ACPI 6.5 table 4.18. */
export const SLEEP_CONTROL_OFFSET = 0x0;
/** RW, u8: sleep status (FADT `SLEEP_STATUS_REG`), bit 7 WAK_STS; always 0 here: we never sleep. */
export const SLEEP_STATUS_OFFSET = 0x1;
/** Sleep control: enter the state that SLP_TYP names. */
export const SLP_EN_MASK = 0x20;
/** Sleep control: SLP_TYP, bits 2 to 4. */
export const SLP_TYP_MASK = 0x1c;
export const SLP_TYP_SHIFT = 2;
/** SLP_TYP of S5 (soft off), as our DSDT's `\_S5` package gives it. */
export const SLP_TYP_S5 = 5;
