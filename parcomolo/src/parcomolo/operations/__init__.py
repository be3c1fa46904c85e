"""Operations: watches how long deliveries take, in business time."""
