"""What is done against forgetting while a stream of tasks is learned."""
