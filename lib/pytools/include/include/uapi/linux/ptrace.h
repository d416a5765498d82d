struct pt_regs;
