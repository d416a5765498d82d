/*
 * The arguments of the system call that the current task returns from: a
 * program at its exit needs none at its entry. Its registers still hold them,
 * because a system call changes none but the one of its result.
 */
struct syscall_arguments {
	u64 first;
	u64 second;
	u64 third;
	u64 fourth;
};

static inline struct syscall_arguments syscall_arguments(void *context)
{
	struct syscall_arguments arguments = {};

	$USER_REGISTERS
	arguments.first = registers->$FIRST_ARGUMENT;
	arguments.second = registers->$SECOND_ARGUMENT;
	arguments.third = registers->$THIRD_ARGUMENT;
	arguments.fourth = registers->$FOURTH_ARGUMENT;
	return arguments;
}
